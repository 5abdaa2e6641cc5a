"""Writes mmlu_prompts.jsonl, mmlu_answers.jsonl, mmlu_scores.json and humaneval_greedy.jsonl: lm-eval on the fixture.

Run:      $(../peers/venv.sh lmeval)/bin/python make_mmlu.py
Made by:  lm-eval 0.4.13, transformers 5.23.0, torch 2.13.0 (see README.md); HFLM on CPU, float32, batch size 1

MMLU is lm-eval's own template tasks/mmlu/default/_default_template_yaml and group file _mmlu.yaml's metric list; only
the data set is replaced by tests/fixtures/mmlu. 5 shots, no chat template.
  mmlu_prompts.jsonl     {"subject", "index", "context", "continuations"}: first 6 test questions of each subject
  mmlu_answers.jsonl     {"subject", "index", "gold", "loglikelihoods", "choice"}: all 600
  mmlu_scores.json       per subject and for the group: acc, acc_stderr, n
HumanEval goes through HFLM.generate_until with the stop strings of tasks/humaneval/humaneval.yaml and 96 new tokens.
  humaneval_greedy.jsonl {"task_id", "completion", "passed"}: completion is cut at the first stop string or EOS
"""
import gzip, json, os, subprocess, sys, tempfile
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import lm_eval, torch, yaml
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

HERE = os.path.dirname(os.path.abspath(__file__)); FIXTURES = f"{HERE}/../fixtures"
TASKS = os.path.join(os.path.dirname(lm_eval.__file__), "tasks")
SUBJECTS = sorted(f[:-len("_test.csv")] for f in os.listdir(f"{FIXTURES}/mmlu/test"))
torch.set_num_threads(1)  # one order of summation

LOADER = '''
import csv, datasets
def load(subject, root, **_):
    def rows(split):
        with open(f"{root}/{split}/{subject}_{split}.csv", newline="") as f:
            return datasets.Dataset.from_list([{"question": r[0], "choices": r[1:5], "answer": "ABCD".index(r[5])} for r in csv.reader(f)])
    return {s: rows(s) for s in ("dev", "test")}
'''
with tempfile.TemporaryDirectory() as tmp:
    open(f"{tmp}/loader.py", "w").write(LOADER)
    for s in SUBJECTS:
        open(f"{tmp}/fixture_{s}.yaml", "w").write(
            f"include: {TASKS}/mmlu/default/_default_template_yaml\ntask: fixture_{s}\n"
            f"custom_dataset: !function loader.load\ndataset_kwargs:\n  subject: {s}\n  root: {FIXTURES}/mmlu\n"
            f'description: "The following are multiple choice questions (with answers) about {s.replace("_", " ")}.\\n\\n"\n')
    group = yaml.safe_load(open(f"{TASKS}/mmlu/default/_mmlu.yaml"))
    group |= {"group": "fixture", "task": [f"fixture_{s}" for s in SUBJECTS]}
    open(f"{tmp}/_fixture.yaml", "w").write(yaml.safe_dump(group))
    lm = HFLM(pretrained=f"{FIXTURES}/model", dtype="float32", device="cpu", batch_size=1)
    assert lm.model.dtype == torch.float32
    out = lm_eval.simple_evaluate(lm, tasks=["fixture"], num_fewshot=5, task_manager=TaskManager(include_path=tmp), log_samples=True)

scores, res = {"subjects": {}}, out["results"]
with open(f"{HERE}/mmlu_prompts.jsonl", "w") as prompts, open(f"{HERE}/mmlu_answers.jsonl", "w") as answers:
    for s in SUBJECTS:
        samples = sorted(out["samples"][f"fixture_{s}"], key=lambda x: x["doc_id"])
        for x in samples:
            args = [x["arguments"][f"gen_args_{i}"] for i in range(4)] if isinstance(x["arguments"], dict) else x["arguments"]
            args = [(a["arg_0"], a["arg_1"]) if isinstance(a, dict) else tuple(a) for a in args]
            assert len({c for c, _ in args}) == 1
            lls = [float(r[0]) for r in x["filtered_resps"]]
            choice = lls.index(max(lls))
            assert x["acc"] == float(choice == int(x["target"]))
            if x["doc_id"] < 6:
                prompts.write(json.dumps({"subject": s, "index": x["doc_id"], "context": args[0][0], "continuations": [a[1] for a in args]}) + "\n")
            answers.write(json.dumps({"subject": s, "index": x["doc_id"], "gold": int(x["target"]), "loglikelihoods": lls, "choice": choice}) + "\n")
        r = res[f"fixture_{s}"]
        scores["subjects"][s] = {"acc": float(r["acc,none"]), "acc_stderr": float(r["acc_stderr,none"]), "n": len(samples)}
g = out["groups"]["fixture"]
scores["group"] = {"acc": float(g["acc,none"]), "acc_stderr": float(g["acc_stderr,none"]), "n": sum(v["n"] for v in scores["subjects"].values())}
json.dump(scores, open(f"{HERE}/mmlu_scores.json", "w"), indent=1); print(json.dumps(scores))

class Loader(yaml.SafeLoader): pass
Loader.add_constructor("!function", lambda l, n: n.value)
until = yaml.load(open(f"{TASKS}/humaneval/humaneval.yaml"), Loader)["generation_kwargs"]["until"]
tasks = [json.loads(l) for l in gzip.open(f"{FIXTURES}/humaneval.jsonl.gz", "rt")]
done = lm.generate_until([Instance("generate_until", t, (t["prompt"], {"until": list(until), "max_gen_toks": 96, "do_sample": False}), i)
                          for i, t in enumerate(tasks)])
with open(f"{HERE}/humaneval_greedy.jsonl", "w") as f:
    good = 0
    for t, completion in zip(tasks, done):
        program = t["prompt"] + completion + "\n" + t["test"] + "\n" + f"check({t['entry_point']})"
        try: passed = subprocess.run([sys.executable, "-I", "-c", program], timeout=30, capture_output=True).returncode == 0
        except subprocess.TimeoutExpired: passed = False
        good += passed
        f.write(json.dumps({"task_id": t["task_id"], "completion": completion, "passed": passed}) + "\n")
print(f"humaneval {good}/{len(tasks)}, stops {until}")
