# SPDX-License-Identifier: Apache-2.0
# Completion of imprint for bash, with live ids: the program itself knows what may come next.
_imprint() {
    local last=${COMP_WORDS[COMP_CWORD]} word
    local -a before=() replies=()

    # bash takes "--output=json" apart at the '='; we complete the value after it.
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        [[ $word == '=' ]] || before+=("$word")
    done
    [[ $last == '=' ]] && last=
    COMPREPLY=()
    mapfile -t replies < <("${COMP_WORDS[0]}" __complete "${before[@]}" "$last" 2>/dev/null)
    if [[ ${replies[0]} == '@file' ]]; then
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$last")
    else
        COMPREPLY=("${replies[@]}")
    fi
}
complete -F _imprint imprint
