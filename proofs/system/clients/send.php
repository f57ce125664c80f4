<?php
[, $root, $endpoint] = $argv;
set_include_path("$root/usr/share/php");
require "AsyncAws/Sqs/autoload.php";
use AsyncAws\Sqs\SqsClient;

$sqs = new SqsClient(["endpoint" => $endpoint, "region" => "us-east-1", "accessKeyId" => "x", "accessKeySecret" => "x"]);
$url = $sqs->createQueue(["QueueName" => "php", "Attributes" => ["VisibilityTimeout" => "7"]])->getQueueUrl();
$body = "<&> \r\n é 😀";
$attributes = ["text" => ["DataType" => "String", "StringValue" => "v<"], "bytes" => ["DataType" => "Binary", "BinaryValue" => "\0\xff"]];
$sent = $sqs->sendMessage(["QueueUrl" => $url, "MessageBody" => $body, "MessageAttributes" => $attributes]);
$digest = $sent->getMd5OfMessageBody() === md5($body);
[$got] = iterator_to_array($sqs->receiveMessage(["QueueUrl" => $url, "AttributeNames" => ["All"], "MessageAttributeNames" => ["All"], "WaitTimeSeconds" => 5])->getMessages());
$batch = $sqs->sendMessageBatch(["QueueUrl" => $url, "Entries" => [["Id" => "a", "MessageBody" => "1"], ["Id" => "b", "MessageBody" => "2", "DelaySeconds" => 901]]]);
$failed = $batch->getFailed()[0];
try {
    $sqs->getQueueUrl(["QueueName" => "missing"])->getQueueUrl();
    $error = null;
} catch (Exception $e) {
    $error = str_replace("Exception", "", (new ReflectionClass($e))->getShortName());
}
$sqs->deleteMessage(["QueueUrl" => $url, "ReceiptHandle" => $got->getReceiptHandle()])->resolve();
echo json_encode([
    "digest" => $digest,
    "body" => $got->getBody() === $body,
    "attributes" => [$got->getMessageAttributes()["text"]->getStringValue(), bin2hex($got->getMessageAttributes()["bytes"]->getBinaryValue())],
    "receives" => $got->getAttributes()["ApproximateReceiveCount"],
    "batch" => [$batch->getSuccessful()[0]->getId(), $failed->getId(), $failed->getCode(), $failed->getSenderFault()],
    "error" => $error,
    "visibility" => $sqs->getQueueAttributes(["QueueUrl" => $url, "AttributeNames" => ["VisibilityTimeout"]])->getAttributes()["VisibilityTimeout"],
]), "\n";
