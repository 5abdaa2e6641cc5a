"""greedy_judge.py GOOD BAD ORIGINAL: the judge of continuations, and a trial of it: it must see that BAD, what
sp-greedy wrote about a sabotaged copy, does not go on as GOOD, what it wrote about the checkpoint itself. Needs
safetensors and numpy, no peer: a judge who lets that pass would let a peer's wrong reading pass."""
import sys

NEAR_NAT = 0.05


def judge(theirs, ours, original):
    """What is wrong with their continuations (lists of tokens), and a line on how they compare. ours: what
    sp-greedy wrote about the same checkpoint; original: about the model that it was made of."""
    steps, equal, near, far = ours["greedy"].shape[1], 0, [], []
    for prompt, (tokens, greedy, margins) in enumerate(zip(theirs, ours["greedy"], ours["margins"], strict=True)):
        if len(tokens) != steps:
            return f"prompt {prompt} was continued with {len(tokens)} tokens, not {steps}", ""
        # behind the first difference, the texts are others
        first = next((i for i in range(steps) if tokens[i] != greedy[i]), None)
        if first is None:
            equal += 1
        else:
            (near if margins[first] < NEAR_NAT else far).append(
                f"prompt {prompt} from token {first}: {tokens[first]}, not {greedy[first]} ({margins[first]:.4f} nat ahead)")
    begins = sum(tokens[0] == greedy[0] for tokens, greedy in zip(theirs, original["greedy"], strict=True))
    line = (f"{equal} of {len(theirs)} prompts continued with the same {steps} tokens, {len(near)} others where two "
            f"were as good as equal; {begins} begin with the original model's token")
    if far:
        return f"{len(far)} prompts go on otherwise: {'; '.join(far)}", line
    if begins < 0.75 * len(theirs):
        return f"only {begins} of {len(theirs)} prompts begin with the original model's token", line
    return None, line


if __name__ == "__main__":
    from safetensors.numpy import load_file
    good, bad, original = (load_file(path) for path in sys.argv[1:])
    wrong, line = judge(good["greedy"].tolist(), good, original)
    assert wrong is None, wrong
    wrong, line = judge(bad["greedy"].tolist(), good, original)
    assert wrong is not None, f"a sabotaged checkpoint passes: {line}"
    print(f"the judge sees sabotage: {wrong:.160}")
