package main

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func main() {
	credentials := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "x", SecretAccessKey: "x"}, nil
	})
	client := sqs.New(sqs.Options{
		Region:           "us-east-1",
		Credentials:      credentials,
		EndpointResolver: sqs.EndpointResolverFromURL(os.Args[1]),
	})
	ctx := context.Background()
	queue := must(client.CreateQueue(ctx, &sqs.CreateQueueInput{
		QueueName:  aws.String("go"),
		Attributes: map[string]string{"VisibilityTimeout": "7"},
	})).QueueUrl
	body := "<&> \r\n é 😀"
	sent := must(client.SendMessage(ctx, &sqs.SendMessageInput{
		QueueUrl:    queue,
		MessageBody: &body,
		MessageAttributes: map[string]types.MessageAttributeValue{
			"text":  {DataType: aws.String("String"), StringValue: aws.String("v<")},
			"bytes": {DataType: aws.String("Binary"), BinaryValue: []byte{0, 255}},
		},
	}))
	sum := md5.Sum([]byte(body))
	got := must(client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl:              queue,
		AttributeNames:        []types.QueueAttributeName{"All"},
		MessageAttributeNames: []string{"All"},
		WaitTimeSeconds:       5,
	})).Messages[0]
	batch := must(client.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{
		QueueUrl: queue,
		Entries: []types.SendMessageBatchRequestEntry{
			{Id: aws.String("a"), MessageBody: aws.String("1")},
			{Id: aws.String("b"), MessageBody: aws.String("2"), DelaySeconds: 901},
		},
	}))
	_, err := client.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: aws.String("missing")})
	var missing *types.QueueDoesNotExist
	must(client.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: queue, ReceiptHandle: got.ReceiptHandle}))
	failed := batch.Failed[0]
	names := []types.QueueAttributeName{"VisibilityTimeout"}
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"digest":     *sent.MD5OfMessageBody == hex.EncodeToString(sum[:]),
		"body":       *got.Body == body,
		"attributes": []string{*got.MessageAttributes["text"].StringValue, hex.EncodeToString(got.MessageAttributes["bytes"].BinaryValue)},
		"receives":   got.Attributes["ApproximateReceiveCount"],
		"batch":      []any{*batch.Successful[0].Id, *failed.Id, *failed.Code, failed.SenderFault},
		"error":      map[bool]string{true: "QueueDoesNotExist", false: "another"}[errors.As(err, &missing)],
		"visibility": must(client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: queue, AttributeNames: names})).Attributes["VisibilityTimeout"],
	})
}
