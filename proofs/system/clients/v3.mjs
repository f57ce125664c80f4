import { createHash } from "node:crypto";
import { SQS } from "@aws-sdk/client-sqs";

const [endpoint] = process.argv.slice(2);
const sqs = new SQS({ endpoint, region: "us-east-1", credentials: { accessKeyId: "x", secretAccessKey: "x" } });
const { QueueUrl } = await sqs.createQueue({ QueueName: "v3", Attributes: { VisibilityTimeout: "7" }, tags: { a: "b & c" } });
const body = "<&> \r\n é 😀";
const MessageAttributes = {
  text: { DataType: "String", StringValue: "v<" },
  bytes: { DataType: "Binary", BinaryValue: new Uint8Array([0, 255]) },
};
const sent = await sqs.sendMessage({ QueueUrl, MessageBody: body, MessageAttributes });
const { Messages: [got] } = await sqs.receiveMessage({ QueueUrl, AttributeNames: ["All"], MessageAttributeNames: ["All"], WaitTimeSeconds: 5 });
const batch = await sqs.sendMessageBatch({ QueueUrl, Entries: [{ Id: "a", MessageBody: "1" }, { Id: "b", MessageBody: "2", DelaySeconds: 901 }] });
const [failed] = batch.Failed;
const error = await sqs.getQueueUrl({ QueueName: "missing" }).then(() => null, (e) => e.name);
await sqs.deleteMessage({ QueueUrl, ReceiptHandle: got.ReceiptHandle });
console.log(JSON.stringify({
  digest: sent.MD5OfMessageBody === createHash("md5").update(body).digest("hex"),
  body: got.Body === body,
  attributes: [got.MessageAttributes.text.StringValue, Buffer.from(got.MessageAttributes.bytes.BinaryValue).toString("hex")],
  receives: got.Attributes.ApproximateReceiveCount,
  batch: [batch.Successful[0].Id, failed.Id, failed.Code, failed.SenderFault],
  error,
  visibility: (await sqs.getQueueAttributes({ QueueUrl, AttributeNames: ["VisibilityTimeout"] })).Attributes.VisibilityTimeout,
}));
