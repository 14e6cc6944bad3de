"""The council: from opinions to one decision. Pure, synchronous, deterministic.

FUSION.md's stages and where each lives:

0 forecast ledger   :mod:`consensus.scoring` (the fold), :mod:`consensus.track` (its order)
1 admit             :mod:`consensus.admission`
2 Brier weights     :mod:`consensus.weights`
3 candidate pools   :mod:`consensus.pooling`; BOA and stacking join its dictionary of candidates
4 no-harm layer     :mod:`consensus.publish` is where it takes over what is published
5 distribution      :mod:`consensus.intervals`; the conformal tracker follows the Vincentised pool
6 decision          :mod:`consensus.edge` (κ), :mod:`consensus.decision`
7 debate            between admission and pooling; its result is one more candidate
8 gate              outside this package
explanation         :mod:`consensus.explain`; the whole as a strategy: :mod:`consensus.council`
"""
