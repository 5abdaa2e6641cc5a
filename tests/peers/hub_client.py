"""hub_client.py KIND REPO DIR [MANY]: huggingface_hub, unmodified and with only HF_ENDPOINT set, on REPO.

KIND is model or dataset. Whatever way the files come, they must be those of DIR, byte for byte. MANY is a
model of 1,100 files."""
import glob, hashlib, importlib.util, os, subprocess, sys, tempfile
import huggingface_hub
from huggingface_hub import (HfApi, HfFileSystem, constants, hf_hub_download, snapshot_download,
                             try_to_load_from_cache)
from huggingface_hub.utils import (EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError,
                                   RevisionNotFoundError)

kind, repo, top = sys.argv[1:4]
api = HfApi()


def contents(folder):
    found = {}
    for at, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(at, name)
            with open(path, "rb") as f:
                found[os.path.relpath(path, folder)] = f.read()
    return {p: d for p, d in found.items() if p != "sallyport-release.json" and not p.startswith(".cache/")}


def raises(error, function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except error as e:
        return e
    raise AssertionError(f"{function.__name__}{args} does not raise {error.__name__}")


def git_id(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


want = contents(top)
some = sorted(want)[0]


def check_listing():
    info = api.repo_info(repo, repo_type=kind, files_metadata=True)
    assert {s.rfilename: s.size for s in info.siblings} == {p: len(d) for p, d in want.items()}
    assert sorted(api.list_repo_files(repo, repo_type=kind)) == sorted(want)
    for expand in (False, True):
        tree = api.list_repo_tree(repo, repo_type=kind, recursive=True, expand=expand)
        entries = {e.path: e for e in tree if hasattr(e, "size")}
        assert sorted(entries) == sorted(want)
        for path, entry in entries.items():
            assert entry.size == len(want[path]), path
            assert not getattr(entry, "xet_hash", None), path
            assert (entry.last_commit is not None) == expand, path
            if entry.lfs is None:
                assert entry.blob_id == git_id(want[path]), path
            else:
                assert entry.lfs.sha256 == hashlib.sha256(want[path]).hexdigest(), path
    found = api.get_paths_info(repo, [some, "no/such"], repo_type=kind)
    assert [e.path for e in found] == [some]
    refs = api.list_repo_refs(repo, repo_type=kind)
    assert [b.target_commit for b in refs.branches if b.name == "main"] == [info.sha]
    assert api.list_repo_commits(repo, repo_type=kind)[0].commit_id == info.sha
    listed = (api.list_models if kind == "model" else api.list_datasets)(search=repo.split("/")[-1])
    assert repo in [r.id for r in listed]
    api.auth_check(repo, repo_type=kind)
    return info.sha


def check_downloads(sha):
    got = snapshot_download(repo, repo_type=kind)
    assert got.endswith(sha), (got, sha)
    assert contents(got) == want
    with tempfile.TemporaryDirectory() as to:
        path = hf_hub_download(repo, some, repo_type=kind, revision="v1", local_dir=to)
        with open(path, "rb") as f:
            assert f.read() == want[some]
        command = [f"{os.path.dirname(sys.executable)}/hf", "download", repo, "--repo-type", kind]
        subprocess.run([*command, "--revision", sha, "--local-dir", f"{to}/all"], check=True, stdout=sys.stderr)
        assert contents(f"{to}/all") == want
    if hasattr(api, "verify_repo_checksums"):
        verified = api.verify_repo_checksums(repo, repo_type=kind)
        assert verified.checked_count == len(want) and not verified.mismatches, verified
    # nothing came by Xet, though the client is able to
    assert importlib.util.find_spec("hf_xet")
    xet = glob.glob(f"{constants.HF_HOME}/xet/**", recursive=True)
    assert not [p for p in xet if os.path.isfile(p) and "/logs/" not in p], xet
    return got


def check_files():
    fs = HfFileSystem()
    at = repo if kind == "model" else f"datasets/{repo}"
    assert sorted(f[len(at) + 1:] for f in fs.find(at)) == sorted(want)
    assert sorted(fs.glob(f"{at}/*")) == sorted({f"{at}/{p.split('/')[0]}" for p in want})
    large = max(want, key=lambda p: len(want[p]))
    with fs.open(f"{at}/{large}", "rb") as f:
        size = len(want[large])
        f.seek(size // 2)
        assert f.read(1000) == want[large][size // 2:size // 2 + 1000]


def check_errors(sha):
    raises(EntryNotFoundError, hf_hub_download, repo, "no/such.json", repo_type=kind)
    # remembered, so that nobody asks again without a network
    known = try_to_load_from_cache(repo, "no/such.json", repo_type=kind, revision=sha)
    assert known is huggingface_hub._CACHED_NO_EXIST, known
    raises(RevisionNotFoundError, snapshot_download, repo, repo_type=kind, revision="refs/pr/1", force_download=True)
    raises(RevisionNotFoundError, api.repo_info, repo, repo_type=kind, revision="v99")
    raises(RepositoryNotFoundError, api.repo_info, repo + "-none", repo_type=kind)
    raises(RepositoryNotFoundError, api.repo_info, repo, repo_type="space")
    raises(Exception, api.whoami, token="hf_x")


def check_offline(got):
    assert snapshot_download(repo, repo_type=kind, local_files_only=True) == got
    program = ("import sys; from huggingface_hub import snapshot_download\n"
               "print(snapshot_download(sys.argv[1], repo_type=sys.argv[2]))")
    env = {k: v for k, v in os.environ.items() if k != "HF_ENDPOINT"} | {"HF_HUB_OFFLINE": "1"}
    said = subprocess.run([sys.executable, "-c", program, repo, kind], env=env, check=True, capture_output=True, text=True)
    assert said.stdout.strip() == got, said
    raises(LocalEntryNotFoundError, hf_hub_download, repo, "other.json", repo_type=kind, local_files_only=True)


def check_pages(other):
    """A repository of more files than a page of a listing has, plain or expanded."""
    for expand in (False, True):
        paths = {e.path for e in api.list_repo_tree(other, expand=expand)}
        assert len(paths) == 1100, len(paths)
    assert len(api.list_repo_files(other)) == 1100


sha = check_listing()
got = check_downloads(sha)
check_files()
check_errors(sha)
check_offline(got)
for many in sys.argv[4:]:
    check_pages(many)
print(f"huggingface_hub {huggingface_hub.__version__}: {kind} {repo}@{sha[:12]}, {len(want)} files as expected")
