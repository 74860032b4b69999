#!/bin/sh
# A separate environment for each peer, below the folder given (default .peers). Needs network; without Java 17 and Maven,
# Kafka Streams is left out.
set -eu
folder=$(realpath "${1:-.peers}")
here=$(dirname "$(realpath "$0")")
python=${PYTHON:-python3}
mkdir -p "$folder"

environment() { # name, packages ...
  name=$1
  shift
  "$python" -m venv "$folder/$name"
  "$folder/$name/bin/pip" install --quiet --disable-pip-version-check numpy orjson "$@"
}

environment quix "quixstreams==3.28.1"
environment bytewax "bytewax[kafka]==0.21.1"
environment faust "faust-streaming==0.15.3"
environment onnx onnx onnxruntime
if command -v mvn >/dev/null && command -v javac >/dev/null; then
  cp -r "$here/kafka_streams" "$folder"
  mvn --quiet --batch-mode --file "$folder/kafka_streams/pom.xml" package
else
  echo "no Maven or no JDK: without Kafka Streams" >&2
fi
