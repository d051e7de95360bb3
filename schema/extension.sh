#!/bin/sh
# Write the files of the extension pgagentos into a folder: control file, install script, upgrade
# scripts. `make -C schema install` runs this and copies them to where PostgreSQL looks for them.
set -eu
LC_ALL=C export LC_ALL
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")"
version=$(sed -n "s/^default_version = '\(.*\)'$/\1/p" pgagentos.control)
{
    printf '%s\n' '\echo Use "CREATE EXTENSION pgagentos" to load this file. \quit'
    for file in [0-9][0-9]_*.sql; do
        printf '\n-- %s\n' "$file"
        cat "$file"
    done
    cat extension.sql
} > "$folder/pgagentos--$version.sql"
cp pgagentos.control "$folder/"
for file in upgrades/*--*.sql; do
    if [ -e "$file" ]; then
        cp "$file" "$folder/pgagentos--$(basename "$file")"
    fi
done
