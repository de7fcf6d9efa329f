#!/usr/bin/env bash
# Runs a command on a SLURM of this one machine, which is started for it and stopped behind it, however it ends:
#
#   tests/slurm/one_machine.sh DIRECTORY COMMAND...
#
# State, logs and configuration are in DIRECTORY; a SLURM that is here already stays as it is. Needs root.
set -euo pipefail

fail() {
  echo "$1" >&2
  exit 1
}

[ "$#" -ge 2 ] || fail "Give a directory and a command."
[ "$(id -u)" -eq 0 ] || fail "SLURM's daemons need root, and this is $(id -un): run it as root, or in a container."
if ! type slurmctld slurmd munged srun >/dev/null 2>&1; then
  type apt-get >/dev/null 2>&1 || fail "No SLURM here, and no apt-get: install slurmctld, slurmd, srun and munged."
  echo "Installing SLURM"
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y slurm-wlm munge >/dev/null ||
    fail "apt-get could not install slurm-wlm and munge: try apt-get update first."
fi

mkdir -p "$1"
place=$(realpath "$1")
shift
host=$(hostname -s)
mkdir -p "$place/state" "$place/spool"
# More CPUs than there are: the tasks wait for a model. pgid, as linuxproc does not find processes that have a space in
# their title, such as `dask worker`. A requeued job begins once its credential is over, which is 2 minutes otherwise.
cat >"$place/slurm.conf" <<CONF
ClusterName=one-machine
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=10
StateSaveLocation=$place/state
SlurmdSpoolDir=$place/spool
SlurmctldPidFile=$place/slurmctld.pid
SlurmdPidFile=$place/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
MailProg=/bin/true
SchedulerParameters=bf_interval=3,sched_interval=3
ReturnToService=2
KillWait=5
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=8 RealMemory=1000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$place/slurm.conf"

until_so() { # within 20 s
  local limit=$((SECONDS + 20))
  until "$@" &>/dev/null; do
    [ "$SECONDS" -lt "$limit" ] || return 1
    sleep 0.2
  done
}

started=() # the last one first
start() { # LOG COMMAND...
  "${@:2}" &>"$place/$1" &
  started=($! ${started[@]+"${started[@]}"})
}
end() {
  kill "$1" 2>/dev/null || true
  wait "$1" || true
}
stop() {
  if [ -n "${command:-}" ]; then end "$command"; fi
  until_so nothing_is_left || true
  for process in ${started[@]+"${started[@]}"}; do end "$process"; done
}
nothing_is_left() { # a job may have gone back into the queue
  scancel --quiet --user="$(id -un)"
  [ -z "$(squeue --noheader)" ]
}
node_is_idle() { [ "$(sinfo --noheader --format=%T)" = idle ]; }
trap stop EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

if ! munge -n &>/dev/null; then # none runs
  install -d -o munge -g munge /run/munge
  start munged.log setpriv --reuid=munge --regid=munge --init-groups munged --foreground
fi
start slurmctld.log slurmctld -D -c
start slurmd.log slurmd -D -N "$host"
until_so node_is_idle || fail "SLURM did not start: see munged.log, slurmctld.log and slurmd.log in $place."

"$@" & # and so a signal is heard at once
command=$!
wait "$command"
