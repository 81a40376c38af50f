"""Types of ops by what they do: the one place where they are listed.

A table that only one module has a use for stands in that module.
"""

import collections
import re

# Control flow v1.

#: Ops that begin and end a frame of a loop of control flow v1.
ENTERS = ("Enter", "RefEnter")
EXITS = ("Exit", "RefExit")

#: Ops that begin and join the two sides of a branch of control flow v1; loops
#: have them too.
SWITCHES = ("Switch", "RefSwitch")

#: Types of ops that hand on a reference to a variable, not its value.
REFERENCE_PASSES = ("RefEnter", "RefIdentity", "RefSwitch")
MERGES = ("Merge", "RefMerge")

#: Ops of control flow v1 at which several paths come together.
JOINS = EXITS + MERGES

#: All ops that loops and branches of control flow v1 are made of.
CONTROL_FLOW_V1 = frozenset(ENTERS + EXITS + SWITCHES + MERGES + (
    "LoopCond", "NextIteration", "RefNextIteration"))

#: Ops that hand their input on unchanged, whatever it is: a value, a tensor
#: list or a handle. Those of references are not among them.
FORWARDING = frozenset([
    "Enter", "Exit", "Identity", "Merge", "NextIteration", "Switch"])

# Stacks and tensor arrays.

#: What the names of the ops of tensor arrays begin with.
TENSOR_ARRAY = "TensorArray"

#: Ops that put a tensor on a stack and take it back, and those that hand the
#: stack itself on.
PUSHES = ("StackPush", "StackPushV2")
POPS = ("StackPop", "StackPopV2")
HANDLE_PASSING = ("Enter", "RefEnter", "Identity", "RefIdentity", "Switch",
                  "RefSwitch")

#: All ops of stacks.
STACK_OPS = frozenset(PUSHES + POPS + (
    "Stack", "StackV2", "StackClose", "StackCloseV2"))

#: Ops that create state which lives for one run. A copy that shared it with
#: the original would read what the original wrote when both run.
PER_RUN_STATE = frozenset([
    "Stack", "StackV2", "TensorArray", "TensorArrayV2", "TensorArrayV3",
    "TensorArrayGrad", "TensorArrayGradV2", "TensorArrayGradV3",
    "TensorArrayGradWithShape"])

# Ops that call functions.

#: How an op calls functions: the index of the input that is their first
#: argument, the attributes with the dtypes of arguments and results, and the
#: attributes that name the functions.
FunctionCall = collections.namedtuple(
    "FunctionCall",
    ["first_argument", "argument_dtypes", "result_dtypes", "functions"])

#: dict from the type of an op that calls functions to how it calls them.
FUNCTION_CALLS = {
    "While": FunctionCall(0, "T", "T", ("cond", "body")),
    "StatelessWhile": FunctionCall(0, "T", "T", ("cond", "body")),
    "If": FunctionCall(1, "Tin", "Tout", ("then_branch", "else_branch")),
    "StatelessIf": FunctionCall(
        1, "Tin", "Tout", ("then_branch", "else_branch")),
    "Case": FunctionCall(1, "Tin", "Tout", ("branches",)),
    "StatelessCase": FunctionCall(1, "Tin", "Tout", ("branches",)),
    "PartitionedCall": FunctionCall(0, "Tin", "Tout", ("f",)),
    "StatefulPartitionedCall": FunctionCall(0, "Tin", "Tout", ("f",)),
}

#: Ops that call functions; `tf.gradients` changes them when it differentiates.
FUNCTIONAL = frozenset(FUNCTION_CALLS)

#: Those that call one function, once.
CALLS = frozenset(["PartitionedCall", "StatefulPartitionedCall"])

#: Those that call a function in a loop, and those that call one of several.
FUNCTIONAL_LOOPS = frozenset(["While", "StatelessWhile"])
FUNCTIONAL_BRANCHES = FUNCTIONAL - CALLS - FUNCTIONAL_LOOPS

#: Ops that run others several times, or belong to the gradient of a loop.
LOOPS = FUNCTIONAL_LOOPS | frozenset(ENTERS + PUSHES + POPS + (
    "For", "MapDefun"))

#: Ops that call Python.
PYTHON_CALLS = frozenset(["EagerPyFunc", "PyFunc", "PyFuncStateless"])

# What an op reads.

#: Ops without inputs that are fed, and those that are variables.
PLACEHOLDERS = ("Placeholder", "PlaceholderV2")
PLACEHOLDER_WITH_DEFAULT = "PlaceholderWithDefault"
VARIABLES = ("VarHandleOp", "VariableV2", "Variable")

#: Ops whose result is the shape of what they read, or a part of it.
SHAPE_READING = frozenset(["Rank", "Shape", "ShapeN", "Size"])

#: Ops whose result depends on the shape of what they read (of a tensor list or
#: array: on how many elements it has, or on theirs), and not on its value.
VALUE_INDEPENDENT = SHAPE_READING | frozenset([
    "OnesLike", "TensorArraySizeV3", "TensorListElementShape",
    "TensorListLength", "ZerosLike"])

# What a run does.

#: Ops that wait for something that happens outside of the run.
WAITING = re.compile(r"(Queue|Reader|Barrier|Stage|Iterator).*"
                     r"(Dequeue|Read|Take|Unstage|GetNext)|IteratorGetNext|"
                     r"OneShotIterator|FIFOQueue")

#: Ops that give another value at each run.
RANDOM = re.compile(
    r"^(Random(?!GammaGrad)|RiscRandom|Truncated|ParameterizedTruncated|"
    r"Multinomial|StatefulRandom|StatefulStandard|StatefulTruncated|"
    r"StatefulUniform|NonDeterministicInts|Rng(ReadAnd)?Skip|"
    r"SampleDistortedBoundingBox|Fractional(Avg|Max)Pool(V2)?$)|"
    r"CandidateSampler$")

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
