"""An object store on this machine: moto's S3 server, which can go away and come back."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "runs"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "tester",
    "AWS_SECRET_ACCESS_KEY": "a-secret-of-tests",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass
class Store:
    """What is stored stays while the server is away: it lives in this process."""

    server: ThreadedMotoServer = field(repr=False)
    host: str
    port: int
    up: bool = True

    def uri(self, prefix: str = "searches") -> str:
        where = f"endpoint_override=http://{self.host}:{self.port}&region=us-east-1"
        return f"s3://{BUCKET}/{prefix}?{where}"

    def client(self) -> Any:
        where = f"http://{self.host}:{self.port}"
        return boto3.client("s3", endpoint_url=where, region_name="us-east-1")

    def go_away(self) -> None:
        self.server.stop()
        self.up = False

    def come_back(self) -> None:
        self.server = ThreadedMotoServer(self.host, self.port, verbose=False)
        self.server.start()
        self.up = True


@contextmanager
def object_store() -> Iterator[Store]:
    """Run a server with an empty bucket; credentials are in the environment meanwhile."""
    before = {key: os.environ.get(key) for key in CREDENTIALS}
    os.environ.update(CREDENTIALS)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    store = Store(server, *server.get_host_and_port())
    s3 = store.client()
    s3.create_bucket(Bucket=BUCKET)
    try:
        yield store
    finally:
        if not store.up:
            store.come_back()
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for found in page.get("Contents", []):
                s3.delete_object(Bucket=BUCKET, Key=found["Key"])
        s3.delete_bucket(Bucket=BUCKET)
        store.server.stop()
        _restore(before)


def _restore(before: Mapping[str, str | None]) -> None:
    for key, value in before.items():
        if value is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = value
