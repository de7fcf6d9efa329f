# A platform engineer runs a batch job as a scheduler does: checked, tried on a few rows, told to end in the middle, run
# again, looked at, and mended where replies were cut off.
#
# Run as `bash platform_engineer.sh SERVER_URL`; PYTHON is the interpreter.
set -u
curator-llm() { "$PYTHON" -m curator_llm "$@"; }

cat > job.yaml <<YAML
version: 1
run_dir: run
input:  {csv: docs.csv, columns: [id, text]}
output: {parquet: tagged}
endpoints:
  fleet: {model: qwen3-32b, base_url: "$1", max_concurrent_requests: 8, price_usd: [0.4, 1.6]}
stages:
  - query_model:
      endpoint: fleet
      prompt_file: prompt.txt
      output: summary
      generation: {max_tokens: 3, temperature: 0}
  - filter: {column: summary__status, in: [ok, truncated]}
YAML
printf 'Summarise: {text}' > prompt.txt
"$PYTHON" -c 'print("id,text"); [print(f"{n:03d},\"document {n}, in full\"") for n in range(240)]' > docs.csv

curator-llm check job.yaml
curator-llm run job.yaml --limit 20 2>/dev/null
echo "sample: $?"

"$PYTHON" -m curator_llm run job.yaml --set endpoints.fleet.max_concurrent_requests=4 2> first.log &
driver=$!
while kill -0 $driver && [ "$(cat run/journal/seg/*.jsonl | wc -l)" -le 60 ]; do sleep 0.05; done
kill -TERM $driver
wait $driver
echo "told to end: $?"
[ -e run/_SUCCESS ] || echo "not marked as a success"

curator-llm run job.yaml 2> second.log
echo "run again: $?"
curator-llm report run
curator-llm retry run --status truncated --set generation.max_tokens=64 2> third.log
echo "retried: $?"
curator-llm report run
curator-llm stop run
