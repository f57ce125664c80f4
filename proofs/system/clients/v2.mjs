import { createHash } from "node:crypto";
import SQS from "aws-sdk/clients/sqs.js";

const [endpoint] = process.argv.slice(2);
const sqs = new SQS({ endpoint, region: "us-east-1", accessKeyId: "x", secretAccessKey: "x" });
const call = (action, params) => sqs[action](params).promise();
const { QueueUrl } = await call("createQueue", { QueueName: "v2", Attributes: { VisibilityTimeout: "7" } });
const body = "<&> \r\n é 😀";
const MessageAttributes = {
  text: { DataType: "String", StringValue: "v<" },
  bytes: { DataType: "Binary", BinaryValue: Buffer.from([0, 255]) },
};
const sent = await call("sendMessage", { QueueUrl, MessageBody: body, MessageAttributes });
const { Messages: [got] } = await call("receiveMessage", { QueueUrl, AttributeNames: ["All"], MessageAttributeNames: ["All"], WaitTimeSeconds: 5 });
const batch = await call("sendMessageBatch", { QueueUrl, Entries: [{ Id: "a", MessageBody: "1" }, { Id: "b", MessageBody: "2", DelaySeconds: 901 }] });
const [failed] = batch.Failed;
const error = await call("getQueueUrl", { QueueName: "missing" }).then(() => null, (e) => e.code);
await call("deleteMessage", { QueueUrl, ReceiptHandle: got.ReceiptHandle });
console.log(JSON.stringify({
  digest: sent.MD5OfMessageBody === createHash("md5").update(body).digest("hex"),
  body: got.Body === body,
  attributes: [got.MessageAttributes.text.StringValue, Buffer.from(got.MessageAttributes.bytes.BinaryValue).toString("hex")],
  receives: got.Attributes.ApproximateReceiveCount,
  batch: [batch.Successful[0].Id, failed.Id, failed.Code, failed.SenderFault],
  error: error === "AWS.SimpleQueueService.NonExistentQueue" ? "QueueDoesNotExist" : error,
  visibility: (await call("getQueueAttributes", { QueueUrl, AttributeNames: ["VisibilityTimeout"] })).Attributes.VisibilityTimeout,
}));
