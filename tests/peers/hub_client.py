"""hub_client.py REPO DIR: snapshot_download of REPO must give the files of DIR, byte for byte."""
import hashlib, os, sys
import huggingface_hub
from huggingface_hub import HfApi, snapshot_download


def files(top):
    found = {}
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as f:
                found[os.path.relpath(path, top)] = hashlib.sha256(f.read()).hexdigest()
    found.pop("sallyport-release.json", None)  # what `sallyctl pull` lays beside the files
    return found


repo, want = sys.argv[1], files(sys.argv[2])
got = snapshot_download(repo)
assert files(got) == want, (sorted(files(got)), sorted(want))
again = snapshot_download(repo, local_files_only=True)  # the cache is complete: works offline
assert again == got, (again, got)
info = HfApi().model_info(repo)
assert got.endswith(info.sha), (got, info.sha)
assert sorted(s.rfilename for s in info.siblings) == sorted(want)
print(f"huggingface_hub {huggingface_hub.__version__}: {repo}@{info.sha[:12]}, {len(want)} files as expected")
