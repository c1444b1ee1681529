"""Asks as Envoy does: lines of JSON {"headers", "header_map", "path", "source", "context"} in, lines of JSON out."""

import json
import sys

import grpc
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from google.protobuf.json_format import MessageToDict

channel = grpc.insecure_channel(sys.argv[1])
service = external_auth_pb2_grpc.AuthorizationStub(channel)
for line in sys.stdin:
    asked = json.loads(line)
    request = external_auth_pb2.CheckRequest()
    attributes = request.attributes
    for name, value in asked.get("context", {}).items():
        attributes.context_extensions[name] = value
    if "source" in asked:
        attributes.source.address.socket_address.address = asked["source"]
    http = attributes.request.http
    http.path = asked.get("path", "/")
    http.method = "GET"
    http.body = "x" * asked.get("body", 0)
    for name, value in asked.get("headers", {}).items():
        http.headers[name] = value
    for name, value in asked.get("header_map", []):
        http.header_map.headers.add(key=name, raw_value=value.encode())
    try:
        answer = MessageToDict(service.Check(request, timeout=20), preserving_proto_field_name=True)
    except grpc.RpcError as error:
        answer = {"error": error.code().name}
    print(json.dumps(answer), flush=True)
