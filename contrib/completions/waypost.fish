# waypost - completion for fish; written by contrib/completions/make
complete -c waypost -s c -l config -r -d 'the configuration'
complete -c waypost -l help -d 'how it is used'
complete -c waypost -l version
complete -c waypost -n __fish_use_subcommand -a serve -d 'run the relay in the foreground'
complete -c waypost -n __fish_use_subcommand -a setup -d 'a first configuration: asks, tries each answer, writes'
complete -c waypost -n '__fish_seen_subcommand_from setup' -l smarthost
complete -c waypost -n '__fish_seen_subcommand_from setup' -l direct
complete -c waypost -n '__fish_seen_subcommand_from setup' -l username
complete -c waypost -n '__fish_seen_subcommand_from setup' -l password-file
complete -c waypost -n '__fish_seen_subcommand_from setup' -l tls
complete -c waypost -n '__fish_seen_subcommand_from setup' -l ca-file
complete -c waypost -n '__fish_seen_subcommand_from setup' -l domain
complete -c waypost -n '__fish_seen_subcommand_from setup' -l root
complete -c waypost -n '__fish_seen_subcommand_from setup' -l sender
complete -c waypost -n '__fish_seen_subcommand_from setup' -l batch
complete -c waypost -n '__fish_seen_subcommand_from setup' -l no-test
complete -c waypost -n '__fish_seen_subcommand_from setup' -l force
complete -c waypost -n __fish_use_subcommand -a migrate -d 'another program\'s configuration as a waypost.conf'
complete -c waypost -n '__fish_seen_subcommand_from migrate' -l from
complete -c waypost -n '__fish_seen_subcommand_from migrate' -l secrets
complete -c waypost -n __fish_use_subcommand -a check -d 'validate the configuration and every file it names'
complete -c waypost -n '__fish_seen_subcommand_from check' -l json
complete -c waypost -n __fish_use_subcommand -a queue -d 'mail that waits: shown, tried now, held, moved, dropped'
complete -c waypost -n '__fish_seen_subcommand_from queue' -a 'list show lanes flush retry hold release reroute drop'
complete -c waypost -n '__fish_seen_subcommand_from queue' -l limit
complete -c waypost -n '__fish_seen_subcommand_from queue' -l json
complete -c waypost -n '__fish_seen_subcommand_from queue' -l content
complete -c waypost -n '__fish_seen_subcommand_from queue' -l all
complete -c waypost -n '__fish_seen_subcommand_from queue' -l lane
complete -c waypost -n '__fish_seen_subcommand_from queue' -l sender
complete -c waypost -n '__fish_seen_subcommand_from queue' -l recipient
complete -c waypost -n '__fish_seen_subcommand_from queue' -l user
complete -c waypost -n '__fish_seen_subcommand_from queue' -l state
complete -c waypost -n '__fish_seen_subcommand_from queue' -l older-than
complete -c waypost -n '__fish_seen_subcommand_from queue' -l newer-than
complete -c waypost -n '__fish_seen_subcommand_from queue' -l deferred
complete -c waypost -n __fish_use_subcommand -a trace -d 'the whole path of a message, step by step'
complete -c waypost -n '__fish_seen_subcommand_from trace' -l limit
complete -c waypost -n '__fish_seen_subcommand_from trace' -l json
complete -c waypost -n __fish_use_subcommand -a explain -d 'what a mail server\'s reply means and what to do'
complete -c waypost -n '__fish_seen_subcommand_from explain' -l json
complete -c waypost -n __fish_use_subcommand -a dkim -d 'signing keys and their DNS records'
complete -c waypost -n '__fish_seen_subcommand_from dkim' -a 'keygen record check'
complete -c waypost -n '__fish_seen_subcommand_from dkim' -l selector
complete -c waypost -n '__fish_seen_subcommand_from dkim' -l type
complete -c waypost -n '__fish_seen_subcommand_from dkim' -l dir
complete -c waypost -n '__fish_seen_subcommand_from dkim' -l file
complete -c waypost -n __fish_use_subcommand -a sendmail -d 'what programs call sendmail: see waypost-sendmail(1)'
complete -c waypost -n __fish_use_subcommand -a user -d 'who may log in, and which senders they may use'
complete -c waypost -n '__fish_seen_subcommand_from user' -a 'add passwd list remove'
complete -c waypost -n '__fish_seen_subcommand_from user' -l sender
complete -c waypost -n '__fish_seen_subcommand_from user' -l scram
complete -c waypost -n '__fish_seen_subcommand_from user' -l clear
complete -c waypost -n '__fish_seen_subcommand_from user' -l file
complete -c waypost -n '__fish_seen_subcommand_from user' -l json
