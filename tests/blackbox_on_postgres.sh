#!/usr/bin/env bash
# Runs the black-box tests on PostgreSQL, and the tests of several servers, which SQLite skips.
# Needs postgresql and python3.
set -euo pipefail
cd "$(dirname "$0")/.."

# These are about files of SQLite, or about its statements.
skipped=(
    at_rest:: backups:: doctor:: renewal:: restore:: storage_faults:: upgrades::
    access::after_the_first_key
    audit::entries_that_are_changed
    audit::the_database_refuses
    clock::
    concurrent_enrollments::
    durability::a_backup
    durability::a_deleted_user
    durability::a_deletion_does_not_wait
    durability::a_log_that_grew
    model_changes::after_a_kill
    models::a_damaged_model
    operation::metrics_count_requests
    server::a_database_of_another_version
    traces::debug_shows
    training_jobs::a_damaged_parent
    training_jobs::a_full_disk
    training_jobs::a_job_ends_as_usual
    users::a_deleted_user_leaves
)
arguments=()
for test in "${skipped[@]}"; do arguments+=(--skip "$test"); done

tests/postgres.sh cargo test --lib store::postgres
tests/postgres.sh cargo test --test blackbox -- --test-threads=4 "${arguments[@]}"
