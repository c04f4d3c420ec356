"""What an audit is: from a configuration to phases, a journal, figures and a verdict.

plan                 options -> AuditConfig -> the phases that are run
setup                model file and folder -> Classifier and stream, preprocessing chosen
run, phases          the clean pass and the attacks, every answer into the journal as known
directory, journal   a run on disk; ledger is the same in memory
summary              journal + run.json -> the figures; statistics, soundness and gates serve it
waivers              failures of gates that are accepted until a date
side, compare        two runs on the same images; regression: a run and its baseline
shards, merge        parts of a run, and one run of all; deadline: as many as the time allows
contradictions       attacks against one another; probes: what stands, attacked once more
probed               what came of the probes, and what of it still holds
record               a finished run with its hashes, for evidence
verify               a finished run against its files and its model
"""
