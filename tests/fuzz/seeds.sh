#!/bin/bash
# seeds.sh FUZZ_SEED CORPUS -- seed corpora, CORPUS/NAME.seeds, made of the repository's fixtures and
# of what FUZZ_SEED writes; CORPUS/NAME is where the fuzzer keeps what it finds itself.
set -euo pipefail

seed=$1 corpus=$2
cd "$(dirname "$0")/../.."
for source in tests/fuzz/*.c; do
	name=$(basename "$source" .c)
	rm -rf "$corpus/$name.seeds"
	mkdir -p "$corpus/$name.seeds" "$corpus/$name"
done
# what it draws for messages lives until its end
ASAN_OPTIONS=detect_leaks=0 "$seed" "$corpus"

put() { # put NAME FILE: standard input
	cat >"$corpus/$1.seeds/$2"
}
fixtures=tests/fixtures model=tests/fixtures/model

put config plain <$model/config.json
for file in $fixtures/arch/*/config.json; do
	put config "$(basename "$(dirname "$file")")" <"$file"
done
put index mixtral <$fixtures/arch/mixtral/model.safetensors.index.json
put index short <<'END'
{"metadata": {"total_size": 12}, "weight_map": {"a": "x.safetensors", "b": "y.safetensors"}}
END
jq -c '.quantization_config = {bits: 4, group_size: 128, quant_method: "awq", version: "gemm",
	zero_point: true, modules_to_not_convert: ["lm_head"]}' $model/config.json | put config awq
# the first merges and what they need: the whole one is 100 KiB, too much to mutate
jq -c '.model.merges |= .[:24] | (.model.merges | map(join(""))) as $merged
	| .model.vocab |= ([to_entries | sort_by(.value)[].key
		| select(length == 1 or IN($merged[]))] | to_entries | map({key: .value, value: .key}) | from_entries)
	| (.model.vocab | length) as $n
	| .added_tokens |= (to_entries | map(.value + {id: (.key + $n)}))' \
	$model/tokenizer.json | put tokenizer short
for file in tests/vectors/tokenizer/*.json; do
	put tokenizer "$(basename "$file" .json)" <"$file"
done
for kind in {0..11}; do # the first byte of encode's input
	jq -j --argjson kind "$kind" 'select(input_line_number % 12 == $kind) |
		([$kind] | implode), .' tests/vectors/tokenizer/texts.jsonl | put encode "kind-$kind"
done
split -l 1 -a 3 <(shuf -n 60 --random-source=$model/tokenizer.json tests/vectors/tokenizer.jsonl |
	jq -j '.text, "\u001e"' | tr '\n\036' ' \n') "$corpus/encode.seeds/text-"
for file in $fixtures/mmlu/dev/*.csv; do
	head -n 3 "$file" | put csv "$(basename "$file")"
done
zcat $fixtures/humaneval.jsonl.gz | sed -n 1,2p | put humaneval two
jq -r .prompt < <(zcat $fixtures/humaneval.jsonl.gz | sed -n 3p) | put humaneval prompt
put card front <<<$'---\nlicense: mit\nbase_model:\n- org/name\ntags: [a]\n---\n# Name\n'
put card plain <README.md
put profile fixture <tests/e2e/fixture.conf
put profile policy <<<'{"confidence":0.95,"mmlu":{"dataset":"/d","max_drop_pp":3.0,"shots":5},"quantize":{"calibration":"/c.jsonl","group_size":128,"method":"awq+","modules_to_not_convert":["mlp"],"fallback":"leave","symmetric":true,"seed":7,"samples":128,"sequence":512}}'
put policy group <<<'{"fetch":{"allow":["*.json","onnx/"],"ignore":["[a-c]?*"],"licences":["mit","other (x)"],"max_files":9,"max_gib":1,"pickle":true,"remote_code":false}}'
put policy config <<<'{"a":[{"\u0061uto_map":{"AutoModel":"m.M"}}],"custom_pipelines":null,"x":"\"auto_map\":"}'
cut -f 1,2 tests/vectors/glob.tsv | sed -n '700p;1400p;2100p' | while IFS=$'\t' read -r pattern path; do
	printf '%s\n%s' "$pattern" "$path" | put policy "glob-${#pattern}"
done
printf 'hf:org/name@main' | put profile hf
printf 'image:ghcr.io:443/org/name:v1' | put profile image
printf 'github:owner/repo@v1' | put profile github
put json canonical < <(jq -cjS . $model/config.json)
put json pretty <$model/tokenizer_config.json

commit=0123456789abcdef0123456789abcdef01234567
digest=$(printf '%064d' 7)
put hub model <<<'{"sha":"'$commit'","gated":"auto","disabled":false,"cardData":{"license":["other"],"license_name":"x"},"tags":["license:mit"]}'
put part map <<<$'sallyport-part/1 100\n0 10\n5 20\n90 100'
put hub limit <<<'"api";r=0;t=55, "resolvers";r=3;t=7'
put hub range <<<'bytes 3-5/10'
put hub tree <<<'[{"type":"directory","path":"a","oid":"'$commit'","size":0},{"type":"file","path":"a/w.safetensors","size":9,"oid":"'$commit'","lfs":{"oid":"'"$digest"'","size":9,"pointerSize":134}},{"type":"file","path":"config.json","size":7,"oid":"'$commit'"}]'
printf '<https://hub.example:8443/api/x?cursor=5>; rel="next", <https://a.example/>; rel=last' |
	put hub link
printf '%s %s\n' $commit "$digest" | put hub journal
printf 'https://hub.example:8443/a%%20b?cursor=x%%2Fy&q=1#z' | put url absolute
printf '[2001:db8::1]:8080' | put url address
printf '/api/models?cursor=a+b&limit' | put url relative

request() { # METHOD PATH LINES… BODY
	printf '%s\n' "$@"
}
request GET /org/m/resolve/main/w.safetensors h:1 https '' bytes=1-5 '' '"x"' '' '' '' '' '' '' '' '' |
	put plan file
request GET /api/models/org%2Fm/tree/refs%2Fheads%2Fmain/a h:1 '' '' '' '' '' True True '' '' '' '' 1 1 '' |
	put plan tree
request GET /api/datasets h '' '' '' '' '' '' '' '' true o org 5 0 '' | put plan list
request POST /api/models/m/paths-info/v1 h '' application/json '' '' '' '' '' '' '' '' '' '' '' \
	'{"paths":["a","a/d"],"expand":true}' | put plan json
request POST /api/models/org/m/paths-info/v2 '' '' '' '' '' '' '' '' '' '' '' '' '' '' \
	'paths=a%2Fd&paths=a&expand=True' | put plan form

for side in bastion enclave; do
	put conf $side <<-CONF
		side = "$side";
		# what each daemon has of its own
		ledgerd: { heartbeat_ms = 500; };
		registryd: { listen = "127.0.0.1:80"; local: { a: { name = "org/name"; dir = "/m"; }; }; };
	CONF
done

put state registration <<<'{}'
printf '{"kind":"model","name":"org/name","release":"","time":"2026-11-24T05:02:03.123Z","tree":"%s","type":"sallyport-registration/1","version":1}' \
	"$digest" | put state registration
printf '{"choices":"A?","ll":[-1,-2,-3,-4,0,0,0,0],"truncated":0}' | put state mmlu
printf '{"programs":[["passed","","%s"],["wrong","x","%s"]],"truncated":0}' "$digest" "$digest" |
	put state programs
printf '12\n' | put state version

# admit FILE KIND OBJECT
admit() {
	printf '{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","operation":"CREATE","kind":{"group":"","version":"v1","kind":"%s"},"namespace":"n","userInfo":{"username":"d"},"object":%s}}' \
		"$2" "$3" | put admit "$1"
}
environment='"env":[{"name":"HF_HUB_OFFLINE","value":"1"},{"name":"TRANSFORMERS_OFFLINE","value":"1"}]'
serve='{"containers":[{"name":"c","image":"vllm/vllm-openai","command":["vllm","serve"],"args":["org/model","--revision","v1","--port=80"],'$environment'}]}'
module='{"initContainers":[{"name":"i","image":"busybox"}],"containers":[{"name":"c","image":"x","command":["python3","-m","vllm.entrypoints.openai.api_server","--model","org/revoked"],'$environment'}]}'
admit pod Pod '{"metadata":{"name":"p"},"spec":'"$serve"'}'
admit module Pod '{"metadata":{"name":"p"},"spec":'"$module"'}'
admit deployment Deployment '{"metadata":{"name":"p"},"spec":{"template":{"spec":'"$serve"'}}}'
