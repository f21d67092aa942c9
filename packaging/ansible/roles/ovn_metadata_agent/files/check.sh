# Check whether the agent $1 would start, as its user $2, with the arguments that
# follow and the files on stdin: privileged.conf, a line "== agent.conf", and
# that file. They go where only that user can read them, below a folder that only
# root can write, which privileged.conf requires.
# Exit codes are those of "ovn-metadata-agent --check".
set -eu

agent=$1 user=$2
shift 2
folder=$(mktemp -d /run/ovn-metadata-check.XXXXXX)
trap 'rm -r "$folder"' EXIT
umask 027
awk -v out="$folder/privileged.conf" -v next_out="$folder/agent.conf" \
    '$0 == "== agent.conf" { out = next_out; next } { print > out }'
chgrp -R "$user" "$folder"
chmod 750 "$folder"
code=0
OS_OVN_METADATA_AGENT__PRIVILEGED_CONFIG="$folder/privileged.conf" \
    runuser -u "$user" -- "$agent" --check "$@" \
    --config-file="$folder/agent.conf" || code=$?
exit $code
