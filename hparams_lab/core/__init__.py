"""The pure core: domains, hparams, metrics, experiments, trials, outcomes, results, and words about them.

It knows no file, no clock, no process and no framework. All other rooms import it.
"""
