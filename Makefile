# make demo   sets up what the demo needs, and serves it on http://127.0.0.1:8000
# make test   sets up everything, checks style and types, runs every test
# make lint   style and types alone
# make bench  measures against other libraries, side by side
# make bench-full  the same with every peer there is
# make soak   ten minutes of chaos: counts what is lost, doubled or out of order
# make docs   builds the documentation as a site, in build/docs/site

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?=

.PHONY: demo test lint bench bench-full soak docs format clean

demo: $(VENV)/.demo
	$(BIN)/tidings demo $(DEMO)

# Many tests start processes, which would compile the package each time where no byte code is written; and many wait:
# three at a time keep two processors busy.
test: $(VENV)/.dev tests/clients/node_modules benchmarks/peers/better_sse/node_modules lint
	tools/system-packages chromium:chromium nginx:nginx-light curl:curl redis-server:redis-server haproxy:haproxy caddy:caddy
	$(BIN)/python -m compileall -q src
	$(BIN)/python -m pytest -n 3 --dist worksteal $(TESTS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A peer that can't be installed is left out, and the report says so.
bench: $(VENV)/.dev benchmarks/peers/better_sse/node_modules
	-tools/system-packages nginx:nginx-light /usr/lib/nginx/modules/ngx_nchan_module.so:libnginx-mod-nchan
	$(BIN)/python -m benchmarks $(BENCH)

bench-full: $(VENV)/.dev
	-tools/system-packages gcc:gcc /usr/include/stdio.h:libc6-dev
	$(MAKE) bench BENCH="--peers all $(BENCH)"

soak: $(VENV)/.dev
	tools/system-packages redis-server:redis-server
	$(BIN)/python -m soak $(SOAK)

docs: $(VENV)/.docs
	$(BIN)/python tools/docs.py build/docs
	@echo "Read it: $(BIN)/python -m http.server --bind 127.0.0.1 --directory build/docs/site 8080"

clean:
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -rf tests/clients/node_modules benchmarks/peers/better_sse/node_modules

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

$(VENV)/.docs: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --group docs
	touch $@

tests/clients/node_modules: tests/clients/package.json | $(VENV)/.dev
	$(BIN)/npm install --prefix tests/clients --loglevel error
	touch $@

benchmarks/peers/better_sse/node_modules: benchmarks/peers/better_sse/package.json | $(VENV)/.dev
	-$(BIN)/npm install --prefix benchmarks/peers/better_sse --loglevel error && touch $@
