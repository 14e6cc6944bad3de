"""The council: from opinions to one decision. Pure, synchronous, deterministic.

FUSION.md's stages and where each lives:

0 forecast ledger   :mod:`consensus.rounds`, :mod:`consensus.track` (their order),
                    :mod:`consensus.scoring` and :mod:`consensus.learning` (the fold)
1 admit             :mod:`consensus.admission`
2 weights, seats    :mod:`consensus.weights`, :mod:`consensus.seats`, :mod:`consensus.evidence`
3 candidate pools   :mod:`consensus.pooling`, :mod:`consensus.boa`, :mod:`consensus.recalibration`
4 no-harm layer     :mod:`consensus.noharm`, :mod:`consensus.publish`
5 distribution      :mod:`consensus.intervals`, :mod:`consensus.conformal`
6 decision          :mod:`consensus.edge` (κ), :mod:`consensus.decision`,
                    :mod:`consensus.abstention`
7 debate            :mod:`consensus.debate`
8 gate              outside this package
explanation         :mod:`consensus.explain`, :mod:`consensus.whatif`, :mod:`consensus.replay`

2 to 5 and 7 together: :mod:`consensus.fusion`; the whole as a strategy: :mod:`consensus.council`;
the same compiled, for searches: :mod:`consensus.kernel`.
"""
