"""Commands that need no agent: versions, and what they make of job files, good and bad."""

import os
import pathlib
import re
import resource
import subprocess
import time
import unittest

from cluster import ROOT, SAMPLES, WORK, job_file, must, nomad, run, sleeper

NOWHERE = {"NOMAD_ADDR": "http://127.0.0.1:1"}
VERSIONS = {"cos": r"cos \d+\.\d+\.\d+", "nomad": r"Nomad v\d+\.\d+\.\d+", "consul": r"Consul v\d+\.\d+\.\d+"}


class Versions(unittest.TestCase):
    def test_each_name_answers_all_forms_with_an_empty_environment(self):
        for name, pattern in VERSIONS.items():
            for form in ("--version", "-version", "version"):
                with self.subTest(name=name, form=form):
                    answer = subprocess.run(
                        [WORK / "bin" / name, form], env={}, capture_output=True, text=True, check=True
                    )
                    self.assertRegex(answer.stdout, f"^{pattern}")
                    self.assertEqual(answer.stderr, "")

    def test_without_arguments_it_explains_itself(self):
        answer = run("cos")
        self.assertIn("job run", answer.all)
        self.assertIn("agent", answer.all)

    def test_an_unknown_command_is_named(self):
        answer = nomad("frobnicate")
        self.assertNotEqual(answer.code, 0)
        self.assertIn("frobnicate", answer.err)


class Files(unittest.TestCase):
    def test_every_sample_is_valid_without_an_agent(self):
        files = sorted((ROOT / "samples/jobs").rglob("*.hcl")) + sorted((ROOT / "samples/jobs").rglob("*.nomad"))
        self.assertGreater(len(files), 15)
        for file in files:
            with self.subTest(file=file.name):
                text = file.read_text()
                values = []
                for name in re.findall(r'^variable "(\w+)"', text, re.MULTILINE):
                    block = text.split(f'variable "{name}"', 1)[1].split("\n}", 1)[0]
                    if "default" not in block:
                        values += ["-var", f"{name}=/bin/true"]
                for command in (["job", "validate"], ["validate"]):
                    answer = must(nomad(*command, *values, file, env=NOWHERE))
                    self.assertIn("Job validation successful", answer.out)

    def test_output_prints_the_job_without_an_agent(self):
        file = ROOT / "samples/jobs/old/fail_service_rolling_deployment.nomad"
        job = must(nomad("job", "run", "-output", file, env=NOWHERE)).json()["Job"]
        self.assertEqual(job["ID"], "fail-service")
        self.assertEqual(job["TaskGroups"][0]["Count"], 3)

    def refused(self, text, line, column, *words):
        file = job_file(text)
        for command in (["job", "validate"], ["job", "plan"], ["job", "run"], ["run"]):
            answer = nomad(*command, file, env=NOWHERE)
            self.assertNotIn(answer.code, (0,), command)
            self.assertIn(f"{file}:{line},{column}", answer.err)
            self.assertIn("^", answer.err)
            for word in words:
                self.assertIn(word, answer.err)
        self.assertEqual(nomad("job", "plan", file, env=NOWHERE).code, 255)

    def test_letters_behind_a_number_are_refused_with_their_place(self):
        text = sleeper("broken").replace("cpu    = 20", "cpu    = 9998s")
        line = 1 + text[: text.index("9998s")].count("\n")
        column = 1 + text.splitlines()[line - 1].index("9998s")
        self.refused(text, line, column + 4, "9998s")

    def test_an_unknown_attribute_is_refused_by_its_name(self):
        text = sleeper("broken").replace("count = 1", "cuont = 1")
        line = 1 + text[: text.index("cuont")].count("\n")
        column = 1 + text.splitlines()[line - 1].index("cuont")
        self.refused(text, line, column, "cuont", "count")

    def test_a_file_that_is_absent_is_named(self):
        answer = nomad("job", "validate", "/no/such/file.nomad")
        self.assertNotEqual(answer.code, 0)
        self.assertIn("/no/such/file.nomad", answer.err)

    def test_ten_megabytes_of_open_braces_are_refused_quickly_in_little_memory(self):
        for name, text in {"bare": "{" * 10_000_000, "nested": "a {\n" * 2_500_000, "list": "a = " + "[" * 9_999_996}.items():
            with self.subTest(name):
                file = job_file(text)
                self.addCleanup(pathlib.Path.unlink, file)
                begun = time.monotonic()
                answer = subprocess.run(
                    [WORK / "bin/nomad", "job", "validate", file],
                    capture_output=True,
                    text=True,
                    timeout=20,
                    check=False,
                    preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20)),
                )
                self.assertLess(time.monotonic() - begun, 10)
                self.assertEqual(answer.returncode, 1, answer.stderr[:400])
                self.assertIn(f"{file}:", answer.stderr)
                self.assertLess(len(answer.stderr), 5000)

    def test_init_writes_a_file_that_is_valid(self):
        folder = WORK / "init"
        folder.mkdir()
        file = folder / "example.nomad.hcl"
        must(run("nomad", "job", "init", "-short", file))
        must(nomad("job", "validate", file, env=NOWHERE))
        self.assertNotEqual(nomad("job", "init", file).code, 0, "it must not overwrite")


class Pipes(unittest.TestCase):
    def test_a_reader_that_has_gone_is_no_error(self):
        for words in (["nomad", "-help"], ["cos"], ["nomad", "job", "run", "-help"], ["consul", "version"]):
            read, write = os.pipe()
            os.close(read)
            try:
                answer = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
            finally:
                os.close(write)
            self.assertEqual((answer.returncode, answer.stderr), (0, ""), words)


class Unreachable(unittest.TestCase):
    def test_an_address_without_an_agent_is_named(self):
        answer = nomad("job", "status", env=NOWHERE)
        self.assertEqual(answer.code, 1)
        self.assertIn("127.0.0.1:1", answer.err)
        answer = nomad("node", "status", "-address=http://127.0.0.1:2")
        self.assertIn("127.0.0.1:2", answer.err)


if __name__ == "__main__":
    unittest.main()
