"""advcli: audits the adversarial robustness of Keras image classifiers."""

__version__ = "0.1.0"
