# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DESCRIPTION = a young woman, light skin, braided auburn hair, brown eyes

.PHONY: demo test install clean

demo: $(VENV)/.installed
	@mkdir -p demo
	@$(BIN)/sosie new mira examples/mira/*.jpg --workspace demo --replace \
	  --likeness fictional --adult --description "$(DESCRIPTION)"
	@$(BIN)/sosie generate mira --prompts examples/scenes.csv -n 1 --workspace demo --out demo/images
	@echo "open demo/images/index.html, or the page on all of it: $(BIN)/sosie studio --workspace demo"

test: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	printf '%s\n' Linux Windows Darwin | xargs -P 2 -I{} $(BIN)/pyright --pythonpath $(BIN)/python --pythonplatform {}
	$(BIN)/lint-imports
	$(BIN)/pytest -n auto --dist loadfile --durations 15
	$(BIN)/python tests/other_pythons.py

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml packages/sosie-mini/pyproject.toml packages/sosie-mini-z/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[local,dev]" \
	  --editable packages/sosie-mini --editable packages/sosie-mini-z
	@touch $@

clean:
	rm -rf $(VENV) demo
