# make demo   sets up what the demo needs, and serves it on http://127.0.0.1:8000
# make test   sets up everything, checks style and types, runs every test
# make lint   style and types alone
# make bench  measures against other libraries, side by side

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?=

.PHONY: demo test lint bench format clean

demo: $(VENV)/.demo
	$(BIN)/tidings demo $(DEMO)

test: $(VENV)/.dev tests/clients/node_modules lint
	tools/system-packages chromium:chromium nginx:nginx-light curl:curl redis-server:redis-server
	$(BIN)/python -m pytest -n 3 --dist loadfile $(TESTS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	-tools/system-packages nginx:nginx-light /usr/lib/nginx/modules/ngx_nchan_module.so:libnginx-mod-nchan
	$(BIN)/python -m benchmarks $(BENCH)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis tests/clients/node_modules

$(BIN)/pip:
	tools/system-packages
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.demo: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --editable '.[demo]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --editable '.[all]' --group dev
	touch $@

tests/clients/node_modules: tests/clients/package.json | $(VENV)/.dev
	$(BIN)/npm install --prefix tests/clients --loglevel error
	touch $@
