"""What the machine that runs the tests must not decide."""

import os

os.environ.pop("GITHUB_STEP_SUMMARY", None)  # reports of tests are no one's step summary
