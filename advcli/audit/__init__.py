"""What an audit is: from a configuration to phases, a journal, figures and a verdict.

plan                 options -> AuditConfig -> the phases that are run
setup                model file and folder -> Classifier and stream, preprocessing chosen
run, phases          the clean pass and the attacks, every answer into the journal as known
directory, journal   a run on disk; ledger is the same in memory
summary              journal + run.json -> the figures; statistics, soundness and gates serve it
side, compare        two runs on the same images; regression: a run and its baseline
verify               a finished run against its files and its model
"""
