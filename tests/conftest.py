"""What the machine that runs the tests must not decide."""

import gc
import os

os.environ.pop("GITHUB_STEP_SUMMARY", None)  # reports of tests are no one's step summary

# TensorFlow's graphs are many objects, and looking through all of them for cycles was a tenth of
# the time that the attacks' tests take
gc.set_threshold(700, 10, 100)
