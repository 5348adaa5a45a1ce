"""Test generation: requirements to Gherkin tests, judged by running them."""
