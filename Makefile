# The commands of this repository. Each installs what it needs (Debian packages, virtual environments in the
# cache directory) and can be run again at any time. LAB_ID=0..9 chooses one of ten labs beside each other.

.DEFAULT_GOAL := help
.PHONY: help demo test test-all check bench molecule lab-up lab-down

help:
	@echo "make demo                     a guest moves between hosts with different iSCSI targets, in the embedded lab"
	@echo "make test                     everything that continuous integration runs"
	@echo "make test-all                 that, the whole fault matrix, and the scenarios that take long (up to 150 minutes)"
	@echo "make check                    static checks and unit tests"
	@echo "make bench                    volume copies beside other tools, up to 100 minutes; BENCH='--cells rbd-* --rounds 2' for a part"
	@echo "make molecule SCENARIO=name   one scenario, with the lab that it needs"
	@echo "make lab-up, make lab-down    the lab by itself"

demo test test-all check lab-up lab-down:
	@tests/setup/run $@

bench:
	@tests/setup/run $@ $(BENCH)

molecule:
	@test -n "$(SCENARIO)" || { echo "Name a scenario: make molecule SCENARIO=name (see extensions/molecule)"; exit 2; }
	@tests/setup/run molecule "$(SCENARIO)"
