"""Types of ops by what they do: the one place where they are listed."""

import re

#: Ops that begin and end a frame of a loop of control flow v1.
ENTERS = ("Enter", "RefEnter")
EXITS = ("Exit", "RefExit")

#: Ops of control flow v1 at which several paths come together.
JOINS = EXITS + ("Merge", "RefMerge")

#: All ops that loops and branches of control flow v1 are made of.
CONTROL_FLOW_V1 = frozenset([
    "Enter", "Exit", "LoopCond", "Merge", "NextIteration", "RefEnter",
    "RefExit", "RefMerge", "RefNextIteration", "RefSwitch", "Switch"])

#: What the names of the ops of tensor arrays begin with.
TENSOR_ARRAY = "TensorArray"

#: Ops that call one function.
CALLS = frozenset(["PartitionedCall", "StatefulPartitionedCall"])

#: Ops that call functions; `tf.gradients` changes them when it differentiates.
FUNCTIONAL = CALLS | frozenset([
    "While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase"])

#: Ops that run others several times.
LOOPS = frozenset(["Enter", "RefEnter", "While", "StatelessWhile", "For",
                   "MapDefun", "StackPushV2", "StackPopV2"])

#: Ops that put a tensor on a stack and take it back, and those that hand the
#: stack itself on.
PUSHES = ("StackPush", "StackPushV2")
POPS = ("StackPop", "StackPopV2")
HANDLE_PASSING = ("Enter", "RefEnter", "Identity", "RefIdentity", "Switch",
                  "RefSwitch")

#: Ops that look at the shape of what they read and not at its value.
SHAPE_READING = frozenset(["Rank", "Shape", "ShapeN", "Size"])

#: Ops that wait for something that happens outside of the run.
WAITING = re.compile(r"(Queue|Reader|Barrier|Stage|Iterator).*"
                     r"(Dequeue|Read|Take|Unstage|GetNext)|IteratorGetNext|"
                     r"OneShotIterator|FIFOQueue")

#: Ops that give another value at each run.
RANDOM = re.compile(r"^(Random|Truncated|ParameterizedTruncated|Multinomial|"
                    r"StatefulRandom|StatefulStandard|StatefulTruncated|"
                    r"StatefulUniform)")

#: Ops that change a variable.
ASSIGNING = re.compile(
    r"Assign|^Resource(Sparse)?Apply|^ResourceScatter|^ResourceCountUpTo|"
    r"^(Sparse)?Apply|^Scatter(?!NdNonAliasing|Nd$)|^CountUpTo$|"
    r"^ResourceStridedSliceAssign|^DestroyResource|^DestroyTemporary|"
    r"^ResourceAccumulator|^Accumulator")

#: Ops that take a variable and do not mind that it has no value.
VALUE_IGNORING = frozenset([
    "Assign", "AssignVariableOp", "IsVariableInitialized",
    "VarIsInitializedOp", "DestroyResourceOp"])

#: Ops that may keep, or hand to Python, the buffer of a value that is fed.
FEED_KEEPING = re.compile(
    r"Enqueue|^PyFunc|^EagerPyFunc|^Stage|^MapStage|"
    r"^OrderedMapStage|Insert|^Barrier|^PutSession|"
    r"^GetSession|"
    r"^TensorList|^EmptyTensorList|Import|Iterator|Dataset")
