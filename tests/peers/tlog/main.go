// tlog DIR VKEY: an exported log (`sallyctl log export DIR`) through Go's own log client.
//
// The checkpoint's signature is golang.org/x/mod/sumdb/note's word; hashes, tiles and proofs are
// golang.org/x/mod/sumdb/tlog's. Checked are: every hash tile and every entry bundle that a log of
// that size has, against the signed root and against what the entries hash to, and that no other
// file is there; an inclusion proof of every entry; a consistency proof from every older size.
// -proof FILE is one more inclusion proof, from `sallyctl log prove SEQ --json`; -older FILE the
// checkpoint of an earlier export of the same log.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const tileHeight = 8 // 256 hashes a tile, fixed by c2sp.org/tlog-tiles

// exported is the directory as a tlog.TileReader; files are read once.
type exported struct {
	dir   string
	files map[string][]byte
}

func (e *exported) read(path string) ([]byte, error) {
	if data, ok := e.files[path]; ok {
		return data, nil
	}
	data, err := os.ReadFile(filepath.Join(e.dir, path))
	if err == nil {
		e.files[path] = data
	}
	return data, err
}

// tilePath is c2sp.org/tlog-tiles' path, which leaves out the height that Go's has.
func tilePath(t tlog.Tile) string {
	return strings.Replace(t.Path(), fmt.Sprintf("tile/%d/", t.H), "tile/", 1)
}

func bundlePath(t tlog.Tile) string {
	return strings.Replace(tilePath(t), "tile/0/", "tile/entries/", 1)
}

func (e *exported) Height() int { return tileHeight }

func (e *exported) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(tiles))
	for i, t := range tiles {
		data, err := e.read(tilePath(t))
		if err != nil {
			return nil, err
		}
		if len(data) != t.W*tlog.HashSize {
			return nil, fmt.Errorf("%s: %d bytes, not %d", tilePath(t), len(data), t.W*tlog.HashSize)
		}
		out[i] = data
	}
	return out, nil
}

func (e *exported) SaveTiles([]tlog.Tile, [][]byte) {}

// stored holds the hashes that tlog computes from the entries, by stored hash index.
type stored []tlog.Hash

func (s stored) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		if x >= int64(len(s)) {
			return nil, fmt.Errorf("no stored hash %d of %d", x, len(s))
		}
		out[i] = s[x]
	}
	return out, nil
}

// openCheckpoint is c2sp.org/tlog-checkpoint: Go's tree note under the log's own origin.
func openCheckpoint(data []byte, verifier note.Verifier) (tlog.Tree, error) {
	signed, err := note.Open(data, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	origin, rest, _ := strings.Cut(signed.Text, "\n")
	if origin != verifier.Name() {
		return tlog.Tree{}, fmt.Errorf("origin %q, not %q", origin, verifier.Name())
	}
	return tlog.ParseTree([]byte("go.sum database tree\n" + rest))
}

// splitBundle takes an entry bundle apart: each entry a 16-bit length, then its bytes.
func splitBundle(data []byte, count int) ([][]byte, error) {
	entries := make([][]byte, 0, count)
	for len(data) > 0 {
		if len(data) < 2 {
			return nil, errors.New("cut off in a length")
		}
		n := int(binary.BigEndian.Uint16(data))
		if len(data) < 2+n {
			return nil, errors.New("cut off in an entry")
		}
		entries = append(entries, data[2:2+n])
		data = data[2+n:]
	}
	if len(entries) != count {
		return nil, fmt.Errorf("%d entries, not %d", len(entries), count)
	}
	return entries, nil
}

// log is what is being checked.
type log struct {
	export  *exported
	tree    tlog.Tree
	hashes  tlog.HashReader // from the tiles
	store   stored          // from the entries
	entries [][]byte
	tiles   []tlog.Tile
}

func (l *log) checkEntries() error {
	for _, t := range l.tiles {
		if t.L != 0 {
			continue
		}
		data, err := l.export.read(bundlePath(t))
		if err != nil {
			return err
		}
		entries, err := splitBundle(data, t.W)
		if err != nil {
			return fmt.Errorf("%s: %w", bundlePath(t), err)
		}
		leaves, err := tlog.ReadTileData(t, l.hashes)
		if err != nil {
			return fmt.Errorf("%s: %w", tilePath(t), err)
		}
		for i, entry := range entries {
			hash := tlog.RecordHash(entry)
			if !bytes.Equal(hash[:], leaves[i*tlog.HashSize:(i+1)*tlog.HashSize]) {
				return fmt.Errorf("%s: entry %d does not hash to what %s says",
					bundlePath(t), i, tilePath(t))
			}
			more, err := tlog.StoredHashes(int64(len(l.entries)), entry, l.store)
			if err != nil {
				return err
			}
			l.store = append(l.store, more...)
			l.entries = append(l.entries, entry)
		}
	}
	root, err := tlog.TreeHash(l.tree.N, l.store)
	if err == nil && root != l.tree.Hash {
		err = fmt.Errorf("the entries hash to %v, the checkpoint says %v", root, l.tree.Hash)
	}
	return err
}

func (l *log) checkTiles() error {
	for _, t := range l.tiles {
		file, err := l.export.read(tilePath(t))
		if err != nil {
			return err
		}
		for _, from := range []tlog.HashReader{l.hashes, l.store} {
			data, err := tlog.ReadTileData(t, from)
			if err != nil {
				return fmt.Errorf("%s: %w", tilePath(t), err)
			}
			if !bytes.Equal(file, data) {
				return fmt.Errorf("%s: not the hashes of the tree", tilePath(t))
			}
		}
	}
	return nil
}

// checkFiles: nothing is there that was not read.
func (l *log) checkFiles() error {
	return filepath.WalkDir(l.export.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(l.export.dir, path)
		if _, ok := l.export.files[name]; err == nil && !ok {
			err = fmt.Errorf("%s: no file of a log of %d entries", name, l.tree.N)
		}
		return err
	})
}

func (l *log) checkInclusion() error {
	for i, entry := range l.entries {
		proof, err := tlog.ProveRecord(l.tree.N, int64(i), l.hashes)
		if err == nil {
			err = tlog.CheckRecord(proof, l.tree.N, l.tree.Hash, int64(i), tlog.RecordHash(entry))
		}
		if err != nil {
			return fmt.Errorf("inclusion of entry %d: %w", i, err)
		}
	}
	return nil
}

func (l *log) checkConsistency(size int64, root tlog.Hash) error {
	proof, err := tlog.ProveTree(l.tree.N, size, l.hashes)
	if err == nil {
		err = tlog.CheckTree(proof, l.tree.N, l.tree.Hash, size, root)
	}
	if err != nil {
		return fmt.Errorf("consistency with size %d: %w", size, err)
	}
	return nil
}

// checkOlderSizes: the old roots are those of the entries, the proofs those of the tiles.
func (l *log) checkOlderSizes() error {
	for size := int64(1); size <= l.tree.N; size++ {
		root, err := tlog.TreeHash(size, l.store)
		if err == nil {
			err = l.checkConsistency(size, root)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *log) checkProof(path string) error {
	var given struct {
		Seq, Size int64
		Hashes    []string
		Entry     []byte
	}
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &given)
	}
	if err != nil {
		return err
	}
	proof := make(tlog.RecordProof, len(given.Hashes))
	for i, text := range given.Hashes {
		hash, err := hex.DecodeString(text)
		if err != nil || len(hash) != tlog.HashSize {
			return fmt.Errorf("hash %d is none", i)
		}
		proof[i] = tlog.Hash(hash)
	}
	if given.Size != l.tree.N {
		return fmt.Errorf("for size %d, not %d", given.Size, l.tree.N)
	}
	return tlog.CheckRecord(proof, given.Size, l.tree.Hash, given.Seq, tlog.RecordHash(given.Entry))
}

func run(dir, vkey string, proofs, older []string) error {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return fmt.Errorf("%s: %w", vkey, err)
	}
	l := log{export: &exported{dir, map[string][]byte{}}}
	data, err := l.export.read("checkpoint")
	if err == nil {
		l.tree, err = openCheckpoint(data, verifier)
	}
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	l.hashes = tlog.TileHashReader(l.tree, l.export)
	l.tiles = tlog.NewTiles(tileHeight, 0, l.tree.N)
	for _, check := range []func() error{l.checkEntries, l.checkTiles, l.checkFiles,
		l.checkInclusion, l.checkOlderSizes} {
		if err := check(); err != nil {
			return err
		}
	}
	for _, path := range proofs {
		if err := l.checkProof(path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	for _, path := range older {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		tree, err := openCheckpoint(data, verifier)
		if err == nil {
			err = l.checkConsistency(tree.N, tree.Hash)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	fmt.Printf("%s: %d entries under %s, %d hash tiles, %d inclusion and %d consistency proofs, "+
		"%d proofs of sallyctl, %d older checkpoints\n", verifier.Name(), l.tree.N,
		base64.StdEncoding.EncodeToString(l.tree.Hash[:]), len(l.tiles), len(l.entries), l.tree.N,
		len(proofs), len(older))
	return nil
}

func main() {
	var proofs, older []string
	list := func(to *[]string) func(string) error {
		return func(path string) error {
			*to = append(*to, path)
			return nil
		}
	}
	flag.Func("proof", "an inclusion `file` of sallyctl log prove --json", list(&proofs))
	flag.Func("older", "a checkpoint `file` of an earlier export", list(&older))
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: tlog [-proof FILE]... [-older FILE]... DIR VKEY")
		os.Exit(2)
	}
	if err := run(flag.Arg(0), flag.Arg(1), proofs, older); err != nil {
		fmt.Fprintln(os.Stderr, "tlog:", err)
		os.Exit(1)
	}
}
