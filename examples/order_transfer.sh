#!/bin/sh
# Order a transfer with curl and wait until it is sealed. Takes AIRGAP_URL, AIRGAP_KEY, CHANNEL, AUDIENCE, ARTIFACT
# and IDEMPOTENCY_KEY from the environment; ends with 0 if it is sealed.
set -eu

answer=$(mktemp)
trap 'rm -f "$answer"' EXIT

# The key goes through a file that only curl reads: arguments are seen by everybody on the machine.
call() {
  printf 'header = "x-functions-key: %s"\n' "$AIRGAP_KEY" |
    curl --config - --silent --show-error --fail-with-body --retry 5 --output "$answer" "$@" || {
      cat "$answer" >&2
      exit 1
    }
}

# The first member of that name: jq -r .NAME would do as well.
field() {
  grep -o "\"$1\":\"[^\"]*\"" "$answer" | head -n 1 | cut -d '"' -f 4
}

call --request POST "$AIRGAP_URL/api/transfers" --header "Idempotency-Key: $IDEMPOTENCY_KEY" \
  --data "{\"channel\": \"$CHANNEL\", \"audience\": \"$AUDIENCE\", \"artifacts\": [\"$ARTIFACT\"]}"
id=$(field transferId)

while :; do
  call "$AIRGAP_URL/api/transfers/$id"
  case $(field state) in
    sealed) break ;;
    requested | planned | exporting | hashing | awaiting-signatures | sealing) sleep "${POLL_SECONDS:-5}" ;;
    *)
      cat "$answer" >&2
      exit 1
      ;;
  esac
done
cat "$answer"
