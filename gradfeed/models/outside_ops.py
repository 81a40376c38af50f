"""Finds ops that reach outside of the graph: files, Python, other machines."""

import re

from gradfeed.graph import traversal

#: Types of ops that read or write files, or are given the names of some.
_FILES = re.compile(
    r"^(ReadFile|WriteFile|MatchingFiles|ImmutableConst|PrintV2)$|"
    r"^(Save(V2|Slices)?|Restore(V2|Slice)?|MergeV2Checkpoints|"
    r"CheckpointHasTensor|LoadAndRemapMatrix|GenerateVocabRemapping|"
    r"InitializeTableFromTextFile(V2)?|FileSystemSetConfiguration)$|"
    r"(WholeFile|TextLine|TFRecord|FixedLengthRecord|LMDB|Identity)Reader|"
    r"^Reader(Read|Num|Reset|Restore|Serialize)|"
    r"(TextLine|TFRecord|FixedLengthRecord|CSV|Sql|LMDB|Save|Load|Snapshot|"
    r"MatchingFiles|AssertCardinalityFile)Dataset|^Cache(Dataset|V2)|"
    r"^(SaveDataset|DistributedSave)|Summary(File|Db)?Writer|"
    r"^Write(\w*Summary|GraphSummary)|^FlushSummaryWriter|^ImportEvent|"
    r"^Debug(Identity|NanCount|NumericSummary)|^DumpTensor")

#: Types of ops that call a Python function of the process by its number.
_PYTHON = re.compile(r"^(PyFunc|PyFuncStateless|EagerPyFunc)$|^_?Numba")

#: Types of ops that talk to other processes.
_NETWORK = re.compile(
    r"^_?(Try)?Rpc|^RemoteCall$|^_?(Host)?(Send|Recv)$|DataService|Bigtable|"
    r"BigQuery|^GrpcServer|^GrpcClient|Kafka|Kinesis|PubSub")


def reach_of(op_type):
  """What ops of a type reach outside of the graph.

  Args:
    op_type: str.

  Returns:
    "files", "Python" or "network"; None where it is nothing of these.
  """
  for reach, pattern in (
      ("files", _FILES), ("Python", _PYTHON), ("network", _NETWORK)):
    if pattern.search(op_type):
      return reach
  return None


def functions_of(node):
  """The names of the functions that a NodeDef names, in its attributes."""
  for value in node.attr.values():
    if value.func.name:
      yield value.func.name
    for function in value.list.func:
      yield function.name


def outside_ops(ops):
  """Those of some ops that reach outside of the graph.

  Args:
    ops: dict from name to `tf.Operation`, what is run.

  Returns:
    list of (name of the op, type, what it reaches); of an op that is inside of
    functions the name is that of the op that calls them.
  """
  reaching = set()
  for name, op in ops.items():
    nodes = [op.node_def]
    for definition in traversal.functions_called(op.graph, nodes):
      nodes.extend(definition.node_def)
    for node in nodes:
      reach = reach_of(node.op)
      if reach:
        reaching.add((name, node.op, reach))
  return sorted(reaching)
