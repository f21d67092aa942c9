# Everything a fresh Debian 12 needs is installed by these targets: Debian's
# packages by apt (with sudo where you are not root), Python's by pip into
# folders of their own under /var/tmp, which other users can enter: the demo
# and the tests run the agent as its own user.

PYTHON ?= /usr/bin/python3
# PyPI's newest, or "debian": the packages of the Debian that this is.
LIBRARIES ?= pypi
TAG := $(shell pwd | cksum | cut -d' ' -f1)
VENV ?= /var/tmp/ovn-metadata-agent-$(TAG)/venv-$(LIBRARIES)
PEER ?= /var/tmp/ovn-metadata-agent-$(TAG)/neutron
ANSIBLE ?= /var/tmp/ovn-metadata-agent-$(TAG)/ansible
ROOT ?= /var/tmp/ovn-metadata-agent-$(TAG)/debian
TOOLS ?= /var/tmp/ovn-metadata-agent-$(TAG)/tools
STORE ?= /var/tmp/ovn-metadata-agent-$(TAG)/containers
IMAGE ?= localhost/ovn-metadata-agent
KOLLA ?= /var/tmp/ovn-metadata-agent-$(TAG)/kolla
KOLLA_IMAGE = localhost/kolla/ovn-metadata-agent:here
SITE ?= /var/tmp/ovn-metadata-agent-$(TAG)/site
PLOTS ?= /var/tmp/ovn-metadata-agent-$(TAG)/plots
# Where `make bench` leaves what it measured; QUICK=1 measures less.
RESULTS ?= dist/bench
# Roots for instances that boot; in `here`, this Debian's own cloud-init.
GUESTS ?= /var/tmp/ovn-metadata-agent-$(TAG)/guests
# How many instances of each release `make boots` boots, and the lottery's seed.
BOOTS ?= 12
SEED ?= 11
FUZZ_SECONDS ?= 600
# What `make suite` makes and runs: FROM is another suite and packages of it.
# For `make upgrade` and `make before` FROM is a commit.
SUITE ?= trixie
FROM ?=
FROM_CHECKOUT = /var/tmp/ovn-metadata-agent-$(TAG)/from
SUITE_ROOT ?= /var/tmp/ovn-metadata-agent-$(TAG)/$(SUITE)$(firstword $(FROM))
RUN ?= unit functional
# What `make matrix` runs: how often, in which Debians, with which libraries.
ROUNDS ?= 3
SUITES ?= bookworm trixie sid
SETS ?= debian pypi

# A checkout of somebody else's, as CI mounts them, is one to build from.
export GIT_CONFIG_COUNT = 1
export GIT_CONFIG_KEY_0 = safe.directory
export GIT_CONFIG_VALUE_0 = $(CURDIR)

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
# Each worker of the functional tests is a host of its own, and waits for most
# of its time.
JOBS ?= $(shell expr 3 \* $$(nproc))
ENTER = $(VENV)/bin/python -m sandbox.enter $(VENV)/bin/python
SANDBOX = PYTHONPATH=tests $(VENV)/bin/python -m sandbox.enter
SOURCES := $(shell find agent privsep etc rootwrap -type f -not -name '*.pyc')
DEB_TOOLS = build-essential git debhelper dh-python dpkg-dev pybuild-plugin-pyproject python3-setuptools scdoc
RPM_TOOLS = python3-packaging rpm rpmlint scdoc strace
PACKAGING_NEEDS = $(DEB_TOOLS) $(RPM_TOOLS) bash-completion lintian logrotate man-db
FUNCTIONAL_NEEDS = nginx squid $$(apt-cache search --names-only '^sos(report)?$$' | sed 's/ .*//;q')
DIST = PYTHON=$(TOOLS)/bin/python CHECK_PYTHON=$(VENV)/bin/python packaging/dist
STEP = @printf '==> %s\n'

.PHONY: help demo test check options docs unit packaging functional continuity faults fuzz lottery tokens soak bench figures \
    upgrade before boot boots ansible suite deb dist dist-check image container dashboard pictures matrix \
    packages from peer guest installed venv clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /	/'

demo: packages venv ## see instances get their metadata (KEEP=1: look around)
	$(STEP) "demo: a chassis of its own, in private namespaces"
	@KEEP=$(KEEP) $(SANDBOX) $(VENV)/bin/python -m sandbox.demo

test: packages ## every check and every test
	@# pip waits for the network, and the functional tests for events.
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target installed
	$(STEP) "all tests; what each part prints comes at its end"
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target \
	    functional packaging IN_TURN=1

ifdef IN_TURN # the functional tests run beside these
unit: check
docs: unit
packaging: docs
endif

check: venv ## format, lint, types, layers
	$(STEP) "ruff, mypy --strict, import-linter"
	@$(VENV)/bin/ruff format --check --quiet . || \
	    { $(VENV)/bin/ruff format --check . ; exit 1; }
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/mypy
	@cd /tmp && $(VENV)/bin/lint-imports --no-logo \
	    --config $(CURDIR)/pyproject.toml

options: venv $(TOOLS)/.installed ## the sample, the tables in docs/ and the SBOM, from the code
	@$(VENV)/bin/python packaging/option_pages.py
	@$(VENV)/bin/python packaging/code_pages.py
	@$(TOOLS)/bin/python packaging/sbom.py

docs: $(SITE)/.installed ## the documentation as a site, in dist/docs; a link that leads nowhere fails
	$(STEP) "the documentation, into dist/docs"
	@rm -rf dist/docs
	@$(SITE)/bin/sphinx-build -nqW --keep-going -b html -j 2 \
	    -c packaging/site -d $(SITE)/doctrees docs dist/docs
	@cp dist/docs/README.html dist/docs/index.html

unit: venv ## tests of pure code: seconds
	$(STEP) "unit tests"
	@$(VENV)/bin/python -Im pytest -q tests/unit

packaging: packages venv $(TOOLS)/.installed $(ANSIBLE)/.installed ## tests of how it is packaged and released
	$(STEP) "packaging"
	@tests/sandbox/install-packages "$(SUDO)" $(PACKAGING_NEEDS)
	@DIST_PYTHON=$(TOOLS)/bin/python OVN_METADATA_ANSIBLE=$(ANSIBLE) \
	    $(VENV)/bin/python -Im pytest -q -n $$(nproc) --dist loadfile \
	    tests/packaging $(ARGS)

functional: packages venv peer guest ## tests on real OVN, OVS, haproxy: minutes
	$(STEP) "functional tests, in private namespaces"
	@tests/sandbox/install-packages "$(SUDO)" $(FUNCTIONAL_NEEDS)
	@PYTHONPATH=tests OVN_METADATA_PEER=$(PEER) OVN_METADATA_GUEST=$(GUESTS)/here \
	    $(VENV)/bin/python -Im pytest tests/functional \
	    --dist loadfile --no-loadscope-reorder --tx '$(JOBS)*popen//python=$(ENTER)' $(ARGS)

continuity: packages venv ## the table of docs/explanation/continuity.md, measured
	$(STEP) "what fails while something else does"
	@$(SANDBOX) $(VENV)/bin/python -Im pytest -q \
	    tests/functional/test_continuity.py \
	    tests/functional/test_starved.py \
	    tests/functional/test_clock_and_pids.py $(ARGS)

faults: packages venv ## all of tests/sandbox/faults, one by one: minutes
	$(STEP) "faults along the whole path, and their remedies"
	@FAULTS=1 $(SANDBOX) $(VENV)/bin/python -Im pytest -q -s \
	    tests/functional/test_faults.py tests/functional/test_alerts.py $(ARGS)

upgrade: packages venv from ## from the commit FROM to this checkout under load, and back
	$(STEP) "upgrade from $(FROM), and back"
	@OVN_METADATA_FROM=$(FROM_CHECKOUT) $(SANDBOX) \
	    $(VENV)/bin/python -Im pytest -q tests/functional/test_upgrade.py $(ARGS)

before: packages venv from ## requests/s of this checkout, beside those of the commit FROM
	$(STEP) "requests/s beside $(FROM)"
	@OVN_METADATA_FROM=$(FROM_CHECKOUT) PYTHONPATH=tests:. $(VENV)/bin/python \
	    -m sandbox.enter $(VENV)/bin/python -m bench.before

fuzz: packages venv ## rows, options, requests that are taken wrongly: FUZZ_SECONDS, SEED
	$(STEP) "random rows, options and requests for $(FUZZ_SECONDS) s"
	@PYTHONPATH=tests $(ENTER) tests/fuzz.py $(FUZZ_SECONDS) $(SEED)

lottery: packages venv ## 100,000 random requests to three servers: LOTTERY_SEED=12
	$(STEP) "requests that no client would send, to three different servers"
	@LOTTERY_REQUESTS=100000 $(SANDBOX) $(VENV)/bin/python -Im pytest -q \
	    tests/functional/test_lottery.py $(ARGS)

tokens: packages venv ## 10,000 requests with a token through kills, an upgrade; 1,000,000 forged
	$(STEP) "requests with a token, while everything is replaced"
	@TOKEN_REQUESTS=10000 FORGED_TOKENS=1000000 $(SANDBOX) $(VENV)/bin/python -Im pytest -q -s \
	    tests/functional/test_tokens_kept.py tests/functional/test_tokens.py \
	    tests/functional/test_two_hypervisors.py -k token $(ARGS)

soak: packages venv ## 2,000 networks come and go: memory, descriptors
	$(STEP) "networks come and go"
	@SOAK_CYCLES=2000 $(SANDBOX) $(VENV)/bin/python -Im pytest -q -s \
	    tests/functional/test_soak.py $(ARGS)

boots: packages venv peer ## cloud-init of three Debians boots while the agent is away: BOOTS=200
	$(STEP) "$(BOOTS) boots of each release, seed $(SEED), beside Neutron's agent"
	@tests/sandbox/install-packages "$(SUDO)" debootstrap
	@set -e; for suite in bookworm trixie sid; do \
	    $(SUDO) tests/boots/build-root $$suite $(GUESTS)/$$suite; done
	@PYTHONPATH=tests OVN_METADATA_PEER=$(PEER) $(VENV)/bin/python -m boots \
	    --boots $(BOOTS) --seed $(SEED) $(GUESTS) $(ARGS)

bench: packages venv $(PLOTS)/.installed ## figures, beside Neutron's agent, and plots: QUICK=1, ARGS=storm
	$(STEP) "benchmarks, into $(RESULTS)"
	@code=0; PYTHONPATH=tests:. QUICK=$(QUICK) $(VENV)/bin/python -m bench \
	    --peer $(PEER) --results $(RESULTS) $(ARGS) || code=1; \
	    $(PLOTS)/bin/python -m bench.plots $(RESULTS) && exit $$code

figures: $(PLOTS)/.installed ## docs/explanation/performance.md and its plots, from $(RESULTS)
	@$(PLOTS)/bin/python -m bench.plots $(RESULTS)
	@$(PYTHON) -m bench.figures $(RESULTS)

boot: venv ## the packages, by apt in a Debian that is booted for them
	$(STEP) "a Debian in $(ROOT)"
	@tests/sandbox/install-packages "$(SUDO)" debootstrap systemd-container \
	    $(DEB_TOOLS)
	@$(SUDO) env PYTHONPATH=tests $(VENV)/bin/python -u -m boot $(ROOT)

ansible: venv peer deb $(ANSIBLE)/.installed ## the role and the plays, in Debians that are booted
	$(STEP) "Ansible plays"
	@tests/sandbox/install-packages "$(SUDO)" debootstrap systemd-container \
	    dpkg-dev openssh-client
	@$(SUDO) env PYTHONPATH=tests $(VENV)/bin/python -u -m boot.ansible \
	    $(ROOT) $(ANSIBLE) $(PEER) dist

deb: ## DEBs of the last commit, into dist/
	$(STEP) "DEBs"
	@tests/sandbox/install-packages "$(SUDO)" $(DEB_TOOLS)
	@rm -f dist/*.deb
	@git archive --prefix=ovn-metadata-agent/ HEAD | \
	    packaging/debian/build - dist
	@ls dist/*.deb

dist: venv $(TOOLS)/.installed ## what is released, of the last commit, into dist/
	$(STEP) "what is released"
	@tests/sandbox/install-packages "$(SUDO)" $(DEB_TOOLS) $(RPM_TOOLS)
	@rm -rf dist
	@$(DIST) dist
	@cat dist/SHA256SUMS

dist-check: dist ## build that again, from the sdist, and compare
	$(STEP) "the same once more"
	@rm -rf $(TOOLS)/again
	@mkdir $(TOOLS)/again
	@tar -xf dist/*.tar.gz -C $(TOOLS)/again
	@cd $(TOOLS)/again/* && umask 077 && \
	    TZ=Asia/Kathmandu LC_ALL=POSIX $(DIST) $(TOOLS)/again/dist
	@diff -r dist $(TOOLS)/again/dist
	@rm -rf $(TOOLS)/again

image: ## the container image, from Debian's packages and this checkout
	$(STEP) "$(IMAGE) in $(STORE)"
	@tests/sandbox/install-packages "$(SUDO)" debootstrap buildah
	@$(SUDO) packaging/container/build $(STORE) $(IMAGE)

container: packages venv peer image $(KOLLA)/.installed ## agent and fleet in containers, plain and Kolla's
	$(STEP) "agent and fleet in containers"
	@tests/sandbox/install-packages "$(SUDO)" podman crun
	@$(SUDO) tests/container/build-kolla $(STORE) $(KOLLA) $(KOLLA_IMAGE)
	@OVN_METADATA_PEER=$(PEER) $(SANDBOX) \
	    $(VENV)/bin/python -m container $(STORE) $(IMAGE) \
	    $(KOLLA) $(KOLLA_IMAGE) $(ARGS)

$(KOLLA)/.installed:
	$(STEP) "Kolla and kolla-ansible into $(KOLLA)"
	@$(PYTHON) -m venv $(KOLLA)
	@$(KOLLA)/bin/pip install --disable-pip-version-check --quiet \
	    ansible-core kolla kolla-ansible podman
	@touch $@

dashboard: packages venv ## docs/pictures/dashboard.png, from a real run
	$(STEP) "a chassis with faults, and a real Prometheus"
	@tests/sandbox/install-packages "$(SUDO)" chromium
	@mkdir -p dist
	@$(SANDBOX) $(VENV)/bin/python -m sandbox.dashboard $(CURDIR)/dist/dashboard.html
	@chromium --headless --no-sandbox --disable-gpu --hide-scrollbars \
	    --window-size=1200,1370 --screenshot=docs/pictures/dashboard.png \
	    file://$(CURDIR)/dist/dashboard.html

pictures: docs ## the site's pages and the pictures as PNGs in dist/pictures, to look at them
	@tests/sandbox/install-packages "$(SUDO)" chromium
	@packaging/site/look dist/docs dist/pictures

suite: ## unit and functional tests in another Debian: SUITE, LIBRARIES
	$(STEP) "a Debian $(SUITE) in $(SUITE_ROOT)"
	@tests/sandbox/install-packages "$(SUDO)" debootstrap
	@$(SUDO) tests/versions/build-root $(SUITE) $(SUITE_ROOT) $(FROM)
	@$(SUDO) env "MAKEFLAGS=$$MAKEFLAGS" \
	    tests/versions/enter $(SUITE_ROOT) make -C /src packages $(RUN)

matrix: ## `make suite` for SUITES with both library sets, ROUNDS times: takes a night
	$(STEP) "$(ROUNDS) whole runs each: $(SUITES); libraries: $(SETS)"
	@tests/versions/matrix dist/matrix '$(ROUNDS)' '$(SUITES)' '$(SETS)'

packages:
	@tests/sandbox/install-packages $(SUDO)

from:
	@[ '$(FROM)' ] || { echo 'FROM=COMMIT is missing: the earlier version' >&2; exit 1; }
	@rm -rf $(FROM_CHECKOUT)
	@mkdir -p $(FROM_CHECKOUT)
	@git archive --output=$(FROM_CHECKOUT)/.tar '$(FROM)'
	@tar -C $(FROM_CHECKOUT) -xf $(FROM_CHECKOUT)/.tar

peer: venv
	@PYTHONPATH=tests OVN_METADATA_PEER=$(PEER) \
	    $(VENV)/bin/python -m sandbox.peer

$(TOOLS)/.installed: packaging/sbom.py
	$(STEP) "tools for a release into $(TOOLS)"
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/pip install --disable-pip-version-check --quiet \
	    build 'cyclonedx-python-lib[json-validation]' twine 'setuptools>=77' wheel
	@touch $@

$(SITE)/.installed:
	$(STEP) "Sphinx into $(SITE)"
	@$(PYTHON) -m venv $(SITE)
	@$(SITE)/bin/pip install --disable-pip-version-check --quiet \
	    'sphinx>=8' 'myst-parser>=4' furo
	@touch $@

$(PLOTS)/.installed:
	$(STEP) "matplotlib into $(PLOTS)"
	@$(PYTHON) -m venv $(PLOTS)
	@$(PLOTS)/bin/pip install --disable-pip-version-check --quiet matplotlib
	@touch $@

$(ANSIBLE)/.installed:
	$(STEP) "Ansible into $(ANSIBLE)"
	@$(PYTHON) -m venv $(ANSIBLE)
	@$(ANSIBLE)/bin/pip install --disable-pip-version-check --quiet \
	    'ansible-core>=2.19' ansible-lint
	@touch $@

guest:
	@tests/boots/unpack "$(SUDO)" $(GUESTS)/here

installed: venv peer guest $(TOOLS)/.installed $(ANSIBLE)/.installed $(SITE)/.installed
	@tests/sandbox/install-packages "$(SUDO)" $(PACKAGING_NEEDS) $(FUNCTIONAL_NEEDS)

venv: $(VENV)/.installed

$(VENV)/.libraries: setup.py
	$(STEP) "Python libraries into $(VENV)"
	@SUDO="$(SUDO)" tests/versions/build-venv $(PYTHON) $(LIBRARIES) $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.libraries $(SOURCES) pyproject.toml
	$(STEP) "this checkout into $(VENV)"
	@rm -rf build
	@$(VENV)/bin/pip install --disable-pip-version-check --quiet \
	    --no-deps --no-build-isolation --force-reinstall .
	@rm -rf build ovn_metadata_agent.egg-info
	@touch $@

clean: ## remove what was installed by pip, and build results
	rm -rf /var/tmp/ovn-metadata-agent-$(TAG) build dist *.egg-info
