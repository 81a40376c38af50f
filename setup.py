"""Packaging; the tools' settings are in pyproject.toml."""

import os
import re

import setuptools

_HERE = os.path.dirname(os.path.abspath(__file__))


def _read(*path):
  with open(os.path.join(_HERE, *path), encoding="utf-8") as source:
    return source.read()


# TensorFlow had Keras 2 in it until 2.15, where tf_keras begins; its versions
# are those of TensorFlow.
_KERAS = ["h5py", "tf_keras; python_version >= '3.9'"]

# Beam 2.48 is the last one for Python 3.7, where TensorFlow 1.15 needs a
# protobuf before 3.21. TFRecords of Beam need google-crc32c.
_BEAM = ["apache-beam>=2.48", "google-crc32c",
         "protobuf<3.21; python_version < '3.8'"]

setuptools.setup(
    name="gradfeed",
    version=re.search(r'^__version__ = "(.+)"$',
                      _read("gradfeed", "__init__.py"), re.MULTILINE).group(1),
    description=(
        "The gradient of any tensor of a TensorFlow 1 graph, at any value."),
    long_description=_read("README.md"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=[
        "gradfeed", "gradfeed._tf", "gradfeed.analysis", "gradfeed.auditing",
        "gradfeed.beam", "gradfeed.branches", "gradfeed.checking",
        "gradfeed.checking.causes", "gradfeed.commands",
        "gradfeed.commands.clusters", "gradfeed.commands.flags",
        "gradfeed.comparing", "gradfeed.compilation",
        "gradfeed.compilation.loops", "gradfeed.derivatives",
        "gradfeed.derivatives.rows", "gradfeed.derivatives.sparsity",
        "gradfeed.derivatives.vectors", "gradfeed.evaluation",
        "gradfeed.evaluation.calls", "gradfeed.evaluation.inputs",
        "gradfeed.explaining", "gradfeed.graph", "gradfeed.migration",
        "gradfeed.migration.exports", "gradfeed.models",
        "gradfeed.optimization", "gradfeed.patching", "gradfeed.rewriting",
        "gradfeed.rewriting.rows", "gradfeed.rewriting.unrolling",
        "gradfeed.shards", "gradfeed.streaming", "gradfeed.streaming.formats"],
    scripts=["scripts/gradfeed"],
    python_requires=">=3.7",
    # TensorFlow is an extra: a legacy project has its own, which may be called
    # tensorflow-gpu or tensorflow-cpu, and nothing may replace it.
    install_requires=["absl-py>=0.10", "numpy"],
    extras_require={
        "tf": ["tensorflow>=1.15,<3"],
        "beam": _BEAM,
        "cli": ["tabulate", "tqdm"],
        "dask": ["dask", "distributed"],
        "keras": _KERAS,
        "scipy": ["scipy"],
        "spark": ["pyspark"],
        "test": ["autograd", "h5py", "pytest>=6", "pytest-xdist", "scipy",
                 "tabulate", "tqdm"],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.7",
        "Programming Language :: Python :: 3.8",
        "Programming Language :: Python :: 3.9",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Software Development :: Libraries :: Python Modules",
    ],
    keywords="tensorflow gradient derivative session feed_dict",
)
