"""A data set in shards: small tasks that the engine of a cluster runs.

`StreamShard` is a task that any engine can send to its workers: Dask, Spark,
Apache Beam, a pool of processes. Each call of it evaluates a derivative of a
model at the points of one shard, by `gradfeed.stream`.
"""

from gradfeed.shards.estimates import Estimate
from gradfeed.shards.estimates import estimate
from gradfeed.shards.local_pools import evaluate
from gradfeed.shards.reports import ShardReport
from gradfeed.shards.tasks import StreamShard
from gradfeed.shards.worker_models import ModelDerivative

__all__ = ["Estimate", "ModelDerivative", "ShardReport", "StreamShard",
           "estimate", "evaluate"]
