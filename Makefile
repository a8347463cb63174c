# Every target sets itself up: .venv is made, and made again when pyproject.toml or
# constraints.txt change. Needs Python 3.11 or newer, make and a package index.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
LONGEST := 400
# Build isolation reads its pins from the environment (pip changed the name in 25.3).
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_BUILD_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: check format lines studio check-studio test test-browser pictures test-slow test-all check-gpu quickstart bench bench-gpu docs clean
.DEFAULT_GOAL := check

# torch goes in first and alone, so that nothing resolved later can choose another one.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Frisket needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet pip
	$(BIN)/python -m pip install --quiet torch
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

check: $(STAMP) lines
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

# The page of `frisket studio`: built into the package, so that nobody else needs Node.
PAGE := src/frisket/studio/static
NODE_STAMP := web/node_modules/.installed
# By the lock file; `npm ci` refuses it where a registry lacks an optional package of Windows.
$(NODE_STAMP): web/package.json web/package-lock.json
	@command -v npm > /dev/null || { echo "The page is built by Node 20.19 or newer, with npm"; exit 1; }
	cd web && npm install --no-save --no-audit --no-fund --silent
	@touch $@

studio: $(NODE_STAMP)
	cd web && npm run --silent format && npm run --silent build

# The page in the package is the one its sources build; its own tests and types.
check-studio: $(NODE_STAMP)
	cd web && npm run --silent lint && npm run --silent check && npm run --silent test
	cd web && npx vite build --logLevel warn --outDir ../.page --emptyOutDir
	@diff -r .page $(PAGE) || { echo "$(PAGE) is not what web/ builds: run make studio"; exit 1; }
	@rm -r .page

# Of a component its style is not counted.
lines:
	@long=$$(for file in $$(find src tests -name '*.py') $$(find web/src -type f); do \
	  echo "$$file $$(sed '/^<style>/,$$d' $$file | wc -l)"; done \
	  | awk '$$2 >= $(LONGEST) { print "  " $$1 ": " $$2 " lines" }'); \
	if [ -n "$$long" ]; then echo "Files stay under $(LONGEST) lines:"; echo "$$long"; exit 1; fi

format: $(STAMP)
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# More workers than four would each hold half a GiB of torch for little.
test: $(STAMP)
	$(BIN)/python -m pytest -n auto --maxprocesses 4

# In Debian's Chromium (apt-get install chromium), one browser at a time.
test-browser: $(STAMP)
	$(BIN)/python -m pytest -m browser tests/studio/browser

# The pictures of docs/studio.md, by the test that walks a whole first job.
pictures: $(STAMP)
	FRISKET_PICTURES=1 $(BIN)/python -m pytest -m browser tests/studio/browser/test_first_job.py

# What is slow, in its order, one at a time to each worker; past 30 minutes none is begun, and those
# not reached are named. FRISKET_SLOW_BUDGET (minutes) may lower it.
test-slow: $(STAMP)
	$(BIN)/python -m pytest -p tests.budget --budget-minutes 30 \
	  -n auto --maxprocesses 4 --maxschedchunk 1 -m "slow and not gpu and not weights"

test-all: $(STAMP)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 -m ""

quickstart: $(STAMP)
	$(BIN)/frisket quickstart --output quickstart
	$(BIN)/frisket masks examples/photos --output quickstart/photo-masks --review

bench: $(STAMP)
	@for each in $(filter-out benchmarks/gpu_cost.py,$(wildcard benchmarks/*_cost.py)); do \
	  echo "$$each"; $(BIN)/python "$$each" || exit 1; done

bench-gpu: $(STAMP)
	$(BIN)/python benchmarks/gpu_cost.py --output docs/performance-gpu.md

# Nine minutes on one card; nothing where there is none.
check-gpu: $(STAMP)
	$(BIN)/python -m benchmarks.check_gpu --json docs/check-gpu.json --page docs/check-gpu.md

docs: $(STAMP)
	$(BIN)/python scripts/floors_drawing.py
	$(BIN)/python scripts/lora_table.py
	$(BIN)/python scripts/preset_families.py
	$(BIN)/python scripts/examples_page.py
	$(BIN)/frisket schema --output src/frisket/config/config.schema.json --reference docs/reference/config.md
	$(BIN)/frisket families --reference docs/reference/families.md
	$(BIN)/frisket methods --reference docs/reference/methods.md
	$(BIN)/frisket import --reference docs/reference/import.md

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
