# waypost - completion for bash; written by contrib/completions/make
_waypost() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} cmd= i words
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        -c | --config) ((i++)) ;;
        -*) ;;
        *) cmd=${COMP_WORDS[i]}; break ;;
        esac
    done
    case $prev in
    -c | --config | --file | --password-file | --ca-file | --dir | --secrets)
        COMPREPLY=()
        return ;;
    esac
    case $cmd in
    "") words="serve setup migrate check queue trace explain dkim sendmail user -c --config --help --version" ;;
    serve) words="" ;;
    setup) words="--smarthost --direct --username --password-file --tls --ca-file --domain --root --sender --batch --no-test --force" ;;
    migrate) words="--from --secrets" ;;
    check) words="--json" ;;
    queue) words="list show lanes flush retry hold release reroute drop --limit --json --content --all --lane --sender --recipient --user --state --older-than --newer-than --deferred" ;;
    trace) words="--limit --json" ;;
    explain) words="--json" ;;
    dkim) words="keygen record check --selector --type --dir --file" ;;
    sendmail) words="" ;;
    user) words="add passwd list remove --sender --scram --clear --file --json" ;;
    *) words= ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -o default -F _waypost waypost
