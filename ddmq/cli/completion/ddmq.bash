# Completion of ddmq, made by packaging/completion.py.

_shtab_ddmq_subparsers=(view workers peek show status create delete publish forget consume ack nack release reject renew move cancel pause resume drain purge clean export import migrate dead log results report redrive wait config check doctor json worker submit help)

_shtab_ddmq_view_option_strings=(-h --help -n --names -w --watch --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_workers_option_strings=(-h --help -a --all --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_peek_option_strings=(-h --help -n --number --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_show_option_strings=(-h --help --key --text --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_status_option_strings=(-h --help --key --text --history --snakemake --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_create_option_strings=(-h --help -f --force --mode --lock-timeout --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_delete_option_strings=(-h --help --lock-timeout --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_publish_option_strings=(-h --help -f --force --from-file --json --null --skip-invalid -p --priority -t --timeout -r --requeue --no-requeue -l --requeue-limit --requeue-prio --delay --durable --no-durable --key -C --skip-cleaning --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_forget_option_strings=(-h --help --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_consume_option_strings=(-h --help -n --number -C --skip-cleaning --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_ack_option_strings=(-h --help --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_nack_option_strings=(-h --help --delay --reason --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_release_option_strings=(-h --help --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_reject_option_strings=(-h --help --reason --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_renew_option_strings=(-h --help -t --timeout --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_move_option_strings=(-h --help --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_cancel_option_strings=(-h --help --key --text --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_pause_option_strings=(-h --help --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_resume_option_strings=(-h --help --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_drain_option_strings=(-h --help --all --host --job --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_purge_option_strings=(-h --help --only --lock-timeout --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_clean_option_strings=(-h --help --end-leases -f --force --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_export_option_strings=(-h --help -o --output --work --no-dead -v --verbose -d --debug -s --silent)
_shtab_ddmq_import_option_strings=(-h --help -f --force --no-dead --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_migrate_option_strings=(-h --help -f --force --copy --work --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_dead_option_strings=(-h --help --key --text -k --kinds --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_log_option_strings=(-h --help --failed --host --text --slowest --compact --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_results_option_strings=(-h --help --cat --concat --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_report_option_strings=(-h --help -o --output --since --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_redrive_option_strings=(-h --help --key --text --reason --code --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_wait_option_strings=(-h --help -t --timeout --progress --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_config_option_strings=(-h --help --set --unset --lock-timeout --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_check_option_strings=(-h --help --clients -t --timeout --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_doctor_option_strings=(-h --help --fix --purged-after --format -v --verbose -d --debug -s --silent)
_shtab_ddmq_json_option_strings=(-h --help -v --verbose -d --debug -s --silent)
_shtab_ddmq_worker_option_strings=(-h --help -v --version --from-file -f --force -j --slots --stdin --batch --persistent --env --bind --timeout --grace --term-signal --on-success --fatal --retry-free --on-exit --retries --backoff --group --tag --log-dir --logs --log-limit --output-dir --output-name --wait --until-done --forever --max-messages --max-failures --fast-failures --no-brake --then --then-even-if-dead --poll-max --time --deadline --min-remaining --progress -d --debug --exit-zero)
_shtab_ddmq_submit_option_strings=(-h --help -v --version --workers --max-workers -j --slots --time -o --option --chain --requeue --worker --job-logs --dry-run --from-file -f --force --stdin --batch --persistent --env --bind --timeout --grace --term-signal --on-success --fatal --retry-free --on-exit --retries --backoff --group --tag --log-dir --logs --log-limit --output-dir --output-name --wait --until-done --forever --max-messages --max-failures --fast-failures --no-brake --then --then-even-if-dead --poll-max --deadline --min-remaining --progress -d --debug --exit-zero)
_shtab_ddmq_help_option_strings=(-h --help)
_shtab_ddmq_option_strings=(-h --help -v --version --completion)

_shtab_ddmq_view_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_workers_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_peek_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_show_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_status_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_create_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_delete_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_publish_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_publish___from_file_COMPGEN=_shtab_compgen_files
_shtab_ddmq_forget_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_consume_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_ack_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_nack_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_release_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_reject_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_renew_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_move_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_cancel_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_pause_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_resume_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_drain_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_purge_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_clean_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_export_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_export__o_COMPGEN=_shtab_compgen_files
_shtab_ddmq_export___output_COMPGEN=_shtab_compgen_files
_shtab_ddmq_import_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_import_pos_2_COMPGEN=_shtab_compgen_files
_shtab_ddmq_migrate_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_migrate_pos_1_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_dead_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_log_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_results_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_results_pos_2_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_report_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_report__o_COMPGEN=_shtab_compgen_files
_shtab_ddmq_report___output_COMPGEN=_shtab_compgen_files
_shtab_ddmq_redrive_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_wait_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_config_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_check_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_check_pos_1_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_doctor_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_worker_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_worker___from_file_COMPGEN=_shtab_compgen_files
_shtab_ddmq_worker___log_dir_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_worker___output_dir_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_submit_pos_1_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_submit___worker_COMPGEN=_shtab_compgen_files
_shtab_ddmq_submit___from_file_COMPGEN=_shtab_compgen_files
_shtab_ddmq_submit___log_dir_COMPGEN=_shtab_compgen_dirs
_shtab_ddmq_submit___output_dir_COMPGEN=_shtab_compgen_dirs

_shtab_ddmq_view___format_choices=(plain json yaml)
_shtab_ddmq_workers___format_choices=(plain json yaml)
_shtab_ddmq_peek___format_choices=(plain json yaml)
_shtab_ddmq_show___format_choices=(plain json yaml)
_shtab_ddmq_status___format_choices=(plain json yaml csv)
_shtab_ddmq_create___format_choices=(plain json yaml)
_shtab_ddmq_delete___format_choices=(plain json yaml)
_shtab_ddmq_publish___format_choices=(plain json yaml)
_shtab_ddmq_forget___format_choices=(plain json yaml)
_shtab_ddmq_consume___format_choices=(plain json yaml)
_shtab_ddmq_ack___format_choices=(plain json yaml)
_shtab_ddmq_nack___format_choices=(plain json yaml)
_shtab_ddmq_release___format_choices=(plain json yaml)
_shtab_ddmq_reject___format_choices=(plain json yaml)
_shtab_ddmq_renew___format_choices=(plain json yaml)
_shtab_ddmq_move___format_choices=(plain json yaml)
_shtab_ddmq_cancel___format_choices=(plain json yaml)
_shtab_ddmq_pause___format_choices=(plain json yaml)
_shtab_ddmq_resume___format_choices=(plain json yaml)
_shtab_ddmq_drain___format_choices=(plain json yaml)
_shtab_ddmq_purge___format_choices=(plain json yaml)
_shtab_ddmq_clean___format_choices=(plain json yaml)
_shtab_ddmq_import___format_choices=(plain json yaml)
_shtab_ddmq_migrate___format_choices=(plain json yaml)
_shtab_ddmq_dead___format_choices=(plain json yaml)
_shtab_ddmq_log___format_choices=(plain json yaml csv)
_shtab_ddmq_results___format_choices=(plain json yaml csv)
_shtab_ddmq_report___format_choices=(plain json yaml csv)
_shtab_ddmq_redrive___format_choices=(plain json yaml)
_shtab_ddmq_wait___format_choices=(plain json yaml)
_shtab_ddmq_config___format_choices=(plain json yaml)
_shtab_ddmq_check___format_choices=(plain json yaml)
_shtab_ddmq_doctor___format_choices=(plain json yaml)
_shtab_ddmq_worker___logs_choices=(failed all none)
_shtab_ddmq_submit_pos_0_choices=(slurm pbs sge)
_shtab_ddmq_submit___logs_choices=(failed all none)
_shtab_ddmq_help_pos_0_choices=(view workers peek show status create delete publish forget consume ack nack release reject renew move cancel pause resume drain purge clean export import migrate dead log results report redrive wait config check doctor json worker submit help)
_shtab_ddmq_pos_0_choices=(view workers peek show status create delete publish forget consume ack nack release reject renew move cancel pause resume drain purge clean export import migrate dead log results report redrive wait config check doctor json worker submit help)
_shtab_ddmq___completion_choices=(bash zsh fish)

_shtab_ddmq_view__h_nargs=0
_shtab_ddmq_view___help_nargs=0
_shtab_ddmq_view__n_nargs=0
_shtab_ddmq_view___names_nargs=0
_shtab_ddmq_view__w_nargs='?'
_shtab_ddmq_view___watch_nargs='?'
_shtab_ddmq_view__v_nargs=0
_shtab_ddmq_view___verbose_nargs=0
_shtab_ddmq_view__d_nargs=0
_shtab_ddmq_view___debug_nargs=0
_shtab_ddmq_view__s_nargs=0
_shtab_ddmq_view___silent_nargs=0
_shtab_ddmq_workers__h_nargs=0
_shtab_ddmq_workers___help_nargs=0
_shtab_ddmq_workers__a_nargs=0
_shtab_ddmq_workers___all_nargs=0
_shtab_ddmq_workers__v_nargs=0
_shtab_ddmq_workers___verbose_nargs=0
_shtab_ddmq_workers__d_nargs=0
_shtab_ddmq_workers___debug_nargs=0
_shtab_ddmq_workers__s_nargs=0
_shtab_ddmq_workers___silent_nargs=0
_shtab_ddmq_peek__h_nargs=0
_shtab_ddmq_peek___help_nargs=0
_shtab_ddmq_peek__v_nargs=0
_shtab_ddmq_peek___verbose_nargs=0
_shtab_ddmq_peek__d_nargs=0
_shtab_ddmq_peek___debug_nargs=0
_shtab_ddmq_peek__s_nargs=0
_shtab_ddmq_peek___silent_nargs=0
_shtab_ddmq_show__h_nargs=0
_shtab_ddmq_show___help_nargs=0
_shtab_ddmq_show__v_nargs=0
_shtab_ddmq_show___verbose_nargs=0
_shtab_ddmq_show__d_nargs=0
_shtab_ddmq_show___debug_nargs=0
_shtab_ddmq_show__s_nargs=0
_shtab_ddmq_show___silent_nargs=0
_shtab_ddmq_status__h_nargs=0
_shtab_ddmq_status___help_nargs=0
_shtab_ddmq_status___history_nargs=0
_shtab_ddmq_status___snakemake_nargs=0
_shtab_ddmq_status__v_nargs=0
_shtab_ddmq_status___verbose_nargs=0
_shtab_ddmq_status__d_nargs=0
_shtab_ddmq_status___debug_nargs=0
_shtab_ddmq_status__s_nargs=0
_shtab_ddmq_status___silent_nargs=0
_shtab_ddmq_create__h_nargs=0
_shtab_ddmq_create___help_nargs=0
_shtab_ddmq_create__f_nargs=0
_shtab_ddmq_create___force_nargs=0
_shtab_ddmq_create__v_nargs=0
_shtab_ddmq_create___verbose_nargs=0
_shtab_ddmq_create__d_nargs=0
_shtab_ddmq_create___debug_nargs=0
_shtab_ddmq_create__s_nargs=0
_shtab_ddmq_create___silent_nargs=0
_shtab_ddmq_delete__h_nargs=0
_shtab_ddmq_delete___help_nargs=0
_shtab_ddmq_delete__v_nargs=0
_shtab_ddmq_delete___verbose_nargs=0
_shtab_ddmq_delete__d_nargs=0
_shtab_ddmq_delete___debug_nargs=0
_shtab_ddmq_delete__s_nargs=0
_shtab_ddmq_delete___silent_nargs=0
_shtab_ddmq_publish__h_nargs=0
_shtab_ddmq_publish___help_nargs=0
_shtab_ddmq_publish__f_nargs=0
_shtab_ddmq_publish___force_nargs=0
_shtab_ddmq_publish___json_nargs=0
_shtab_ddmq_publish___null_nargs=0
_shtab_ddmq_publish___skip_invalid_nargs=0
_shtab_ddmq_publish__r_nargs=0
_shtab_ddmq_publish___requeue_nargs=0
_shtab_ddmq_publish___no_requeue_nargs=0
_shtab_ddmq_publish___durable_nargs=0
_shtab_ddmq_publish___no_durable_nargs=0
_shtab_ddmq_publish__C_nargs=0
_shtab_ddmq_publish___skip_cleaning_nargs=0
_shtab_ddmq_publish__v_nargs=0
_shtab_ddmq_publish___verbose_nargs=0
_shtab_ddmq_publish__d_nargs=0
_shtab_ddmq_publish___debug_nargs=0
_shtab_ddmq_publish__s_nargs=0
_shtab_ddmq_publish___silent_nargs=0
_shtab_ddmq_forget__h_nargs=0
_shtab_ddmq_forget___help_nargs=0
_shtab_ddmq_forget__v_nargs=0
_shtab_ddmq_forget___verbose_nargs=0
_shtab_ddmq_forget__d_nargs=0
_shtab_ddmq_forget___debug_nargs=0
_shtab_ddmq_forget__s_nargs=0
_shtab_ddmq_forget___silent_nargs=0
_shtab_ddmq_consume__h_nargs=0
_shtab_ddmq_consume___help_nargs=0
_shtab_ddmq_consume__C_nargs=0
_shtab_ddmq_consume___skip_cleaning_nargs=0
_shtab_ddmq_consume__v_nargs=0
_shtab_ddmq_consume___verbose_nargs=0
_shtab_ddmq_consume__d_nargs=0
_shtab_ddmq_consume___debug_nargs=0
_shtab_ddmq_consume__s_nargs=0
_shtab_ddmq_consume___silent_nargs=0
_shtab_ddmq_ack__h_nargs=0
_shtab_ddmq_ack___help_nargs=0
_shtab_ddmq_ack__v_nargs=0
_shtab_ddmq_ack___verbose_nargs=0
_shtab_ddmq_ack__d_nargs=0
_shtab_ddmq_ack___debug_nargs=0
_shtab_ddmq_ack__s_nargs=0
_shtab_ddmq_ack___silent_nargs=0
_shtab_ddmq_nack__h_nargs=0
_shtab_ddmq_nack___help_nargs=0
_shtab_ddmq_nack__v_nargs=0
_shtab_ddmq_nack___verbose_nargs=0
_shtab_ddmq_nack__d_nargs=0
_shtab_ddmq_nack___debug_nargs=0
_shtab_ddmq_nack__s_nargs=0
_shtab_ddmq_nack___silent_nargs=0
_shtab_ddmq_release__h_nargs=0
_shtab_ddmq_release___help_nargs=0
_shtab_ddmq_release__v_nargs=0
_shtab_ddmq_release___verbose_nargs=0
_shtab_ddmq_release__d_nargs=0
_shtab_ddmq_release___debug_nargs=0
_shtab_ddmq_release__s_nargs=0
_shtab_ddmq_release___silent_nargs=0
_shtab_ddmq_reject__h_nargs=0
_shtab_ddmq_reject___help_nargs=0
_shtab_ddmq_reject__v_nargs=0
_shtab_ddmq_reject___verbose_nargs=0
_shtab_ddmq_reject__d_nargs=0
_shtab_ddmq_reject___debug_nargs=0
_shtab_ddmq_reject__s_nargs=0
_shtab_ddmq_reject___silent_nargs=0
_shtab_ddmq_renew__h_nargs=0
_shtab_ddmq_renew___help_nargs=0
_shtab_ddmq_renew__v_nargs=0
_shtab_ddmq_renew___verbose_nargs=0
_shtab_ddmq_renew__d_nargs=0
_shtab_ddmq_renew___debug_nargs=0
_shtab_ddmq_renew__s_nargs=0
_shtab_ddmq_renew___silent_nargs=0
_shtab_ddmq_move__h_nargs=0
_shtab_ddmq_move___help_nargs=0
_shtab_ddmq_move__v_nargs=0
_shtab_ddmq_move___verbose_nargs=0
_shtab_ddmq_move__d_nargs=0
_shtab_ddmq_move___debug_nargs=0
_shtab_ddmq_move__s_nargs=0
_shtab_ddmq_move___silent_nargs=0
_shtab_ddmq_cancel__h_nargs=0
_shtab_ddmq_cancel___help_nargs=0
_shtab_ddmq_cancel__v_nargs=0
_shtab_ddmq_cancel___verbose_nargs=0
_shtab_ddmq_cancel__d_nargs=0
_shtab_ddmq_cancel___debug_nargs=0
_shtab_ddmq_cancel__s_nargs=0
_shtab_ddmq_cancel___silent_nargs=0
_shtab_ddmq_pause__h_nargs=0
_shtab_ddmq_pause___help_nargs=0
_shtab_ddmq_pause__v_nargs=0
_shtab_ddmq_pause___verbose_nargs=0
_shtab_ddmq_pause__d_nargs=0
_shtab_ddmq_pause___debug_nargs=0
_shtab_ddmq_pause__s_nargs=0
_shtab_ddmq_pause___silent_nargs=0
_shtab_ddmq_resume__h_nargs=0
_shtab_ddmq_resume___help_nargs=0
_shtab_ddmq_resume__v_nargs=0
_shtab_ddmq_resume___verbose_nargs=0
_shtab_ddmq_resume__d_nargs=0
_shtab_ddmq_resume___debug_nargs=0
_shtab_ddmq_resume__s_nargs=0
_shtab_ddmq_resume___silent_nargs=0
_shtab_ddmq_drain__h_nargs=0
_shtab_ddmq_drain___help_nargs=0
_shtab_ddmq_drain___all_nargs=0
_shtab_ddmq_drain__v_nargs=0
_shtab_ddmq_drain___verbose_nargs=0
_shtab_ddmq_drain__d_nargs=0
_shtab_ddmq_drain___debug_nargs=0
_shtab_ddmq_drain__s_nargs=0
_shtab_ddmq_drain___silent_nargs=0
_shtab_ddmq_purge__h_nargs=0
_shtab_ddmq_purge___help_nargs=0
_shtab_ddmq_purge__v_nargs=0
_shtab_ddmq_purge___verbose_nargs=0
_shtab_ddmq_purge__d_nargs=0
_shtab_ddmq_purge___debug_nargs=0
_shtab_ddmq_purge__s_nargs=0
_shtab_ddmq_purge___silent_nargs=0
_shtab_ddmq_clean__h_nargs=0
_shtab_ddmq_clean___help_nargs=0
_shtab_ddmq_clean___end_leases_nargs=0
_shtab_ddmq_clean__f_nargs=0
_shtab_ddmq_clean___force_nargs=0
_shtab_ddmq_clean__v_nargs=0
_shtab_ddmq_clean___verbose_nargs=0
_shtab_ddmq_clean__d_nargs=0
_shtab_ddmq_clean___debug_nargs=0
_shtab_ddmq_clean__s_nargs=0
_shtab_ddmq_clean___silent_nargs=0
_shtab_ddmq_export__h_nargs=0
_shtab_ddmq_export___help_nargs=0
_shtab_ddmq_export___work_nargs=0
_shtab_ddmq_export___no_dead_nargs=0
_shtab_ddmq_export__v_nargs=0
_shtab_ddmq_export___verbose_nargs=0
_shtab_ddmq_export__d_nargs=0
_shtab_ddmq_export___debug_nargs=0
_shtab_ddmq_export__s_nargs=0
_shtab_ddmq_export___silent_nargs=0
_shtab_ddmq_import__h_nargs=0
_shtab_ddmq_import___help_nargs=0
_shtab_ddmq_import__f_nargs=0
_shtab_ddmq_import___force_nargs=0
_shtab_ddmq_import___no_dead_nargs=0
_shtab_ddmq_import__v_nargs=0
_shtab_ddmq_import___verbose_nargs=0
_shtab_ddmq_import__d_nargs=0
_shtab_ddmq_import___debug_nargs=0
_shtab_ddmq_import__s_nargs=0
_shtab_ddmq_import___silent_nargs=0
_shtab_ddmq_migrate__h_nargs=0
_shtab_ddmq_migrate___help_nargs=0
_shtab_ddmq_migrate__f_nargs=0
_shtab_ddmq_migrate___force_nargs=0
_shtab_ddmq_migrate___copy_nargs=0
_shtab_ddmq_migrate___work_nargs=0
_shtab_ddmq_migrate__v_nargs=0
_shtab_ddmq_migrate___verbose_nargs=0
_shtab_ddmq_migrate__d_nargs=0
_shtab_ddmq_migrate___debug_nargs=0
_shtab_ddmq_migrate__s_nargs=0
_shtab_ddmq_migrate___silent_nargs=0
_shtab_ddmq_dead__h_nargs=0
_shtab_ddmq_dead___help_nargs=0
_shtab_ddmq_dead__k_nargs=0
_shtab_ddmq_dead___kinds_nargs=0
_shtab_ddmq_dead__v_nargs=0
_shtab_ddmq_dead___verbose_nargs=0
_shtab_ddmq_dead__d_nargs=0
_shtab_ddmq_dead___debug_nargs=0
_shtab_ddmq_dead__s_nargs=0
_shtab_ddmq_dead___silent_nargs=0
_shtab_ddmq_log__h_nargs=0
_shtab_ddmq_log___help_nargs=0
_shtab_ddmq_log___failed_nargs=0
_shtab_ddmq_log___compact_nargs=0
_shtab_ddmq_log__v_nargs=0
_shtab_ddmq_log___verbose_nargs=0
_shtab_ddmq_log__d_nargs=0
_shtab_ddmq_log___debug_nargs=0
_shtab_ddmq_log__s_nargs=0
_shtab_ddmq_log___silent_nargs=0
_shtab_ddmq_results__h_nargs=0
_shtab_ddmq_results___help_nargs=0
_shtab_ddmq_results___cat_nargs=0
_shtab_ddmq_results__v_nargs=0
_shtab_ddmq_results___verbose_nargs=0
_shtab_ddmq_results__d_nargs=0
_shtab_ddmq_results___debug_nargs=0
_shtab_ddmq_results__s_nargs=0
_shtab_ddmq_results___silent_nargs=0
_shtab_ddmq_report__h_nargs=0
_shtab_ddmq_report___help_nargs=0
_shtab_ddmq_report__v_nargs=0
_shtab_ddmq_report___verbose_nargs=0
_shtab_ddmq_report__d_nargs=0
_shtab_ddmq_report___debug_nargs=0
_shtab_ddmq_report__s_nargs=0
_shtab_ddmq_report___silent_nargs=0
_shtab_ddmq_redrive__h_nargs=0
_shtab_ddmq_redrive___help_nargs=0
_shtab_ddmq_redrive__v_nargs=0
_shtab_ddmq_redrive___verbose_nargs=0
_shtab_ddmq_redrive__d_nargs=0
_shtab_ddmq_redrive___debug_nargs=0
_shtab_ddmq_redrive__s_nargs=0
_shtab_ddmq_redrive___silent_nargs=0
_shtab_ddmq_wait__h_nargs=0
_shtab_ddmq_wait___help_nargs=0
_shtab_ddmq_wait___progress_nargs=0
_shtab_ddmq_wait__v_nargs=0
_shtab_ddmq_wait___verbose_nargs=0
_shtab_ddmq_wait__d_nargs=0
_shtab_ddmq_wait___debug_nargs=0
_shtab_ddmq_wait__s_nargs=0
_shtab_ddmq_wait___silent_nargs=0
_shtab_ddmq_config__h_nargs=0
_shtab_ddmq_config___help_nargs=0
_shtab_ddmq_config__v_nargs=0
_shtab_ddmq_config___verbose_nargs=0
_shtab_ddmq_config__d_nargs=0
_shtab_ddmq_config___debug_nargs=0
_shtab_ddmq_config__s_nargs=0
_shtab_ddmq_config___silent_nargs=0
_shtab_ddmq_check__h_nargs=0
_shtab_ddmq_check___help_nargs=0
_shtab_ddmq_check__v_nargs=0
_shtab_ddmq_check___verbose_nargs=0
_shtab_ddmq_check__d_nargs=0
_shtab_ddmq_check___debug_nargs=0
_shtab_ddmq_check__s_nargs=0
_shtab_ddmq_check___silent_nargs=0
_shtab_ddmq_doctor__h_nargs=0
_shtab_ddmq_doctor___help_nargs=0
_shtab_ddmq_doctor___fix_nargs=0
_shtab_ddmq_doctor__v_nargs=0
_shtab_ddmq_doctor___verbose_nargs=0
_shtab_ddmq_doctor__d_nargs=0
_shtab_ddmq_doctor___debug_nargs=0
_shtab_ddmq_doctor__s_nargs=0
_shtab_ddmq_doctor___silent_nargs=0
_shtab_ddmq_json__h_nargs=0
_shtab_ddmq_json___help_nargs=0
_shtab_ddmq_json__v_nargs=0
_shtab_ddmq_json___verbose_nargs=0
_shtab_ddmq_json__d_nargs=0
_shtab_ddmq_json___debug_nargs=0
_shtab_ddmq_json__s_nargs=0
_shtab_ddmq_json___silent_nargs=0
_shtab_ddmq_worker__h_nargs=0
_shtab_ddmq_worker___help_nargs=0
_shtab_ddmq_worker__v_nargs=0
_shtab_ddmq_worker___version_nargs=0
_shtab_ddmq_worker__f_nargs=0
_shtab_ddmq_worker___force_nargs=0
_shtab_ddmq_worker___stdin_nargs=0
_shtab_ddmq_worker___persistent_nargs=0
_shtab_ddmq_worker___bind_nargs=0
_shtab_ddmq_worker___group_nargs=0
_shtab_ddmq_worker___tag_nargs=0
_shtab_ddmq_worker___until_done_nargs=0
_shtab_ddmq_worker___forever_nargs=0
_shtab_ddmq_worker___no_brake_nargs=0
_shtab_ddmq_worker___then_even_if_dead_nargs=0
_shtab_ddmq_worker___progress_nargs=0
_shtab_ddmq_worker__d_nargs=0
_shtab_ddmq_worker___debug_nargs=0
_shtab_ddmq_worker___exit_zero_nargs=0
_shtab_ddmq_submit__h_nargs=0
_shtab_ddmq_submit___help_nargs=0
_shtab_ddmq_submit__v_nargs=0
_shtab_ddmq_submit___version_nargs=0
_shtab_ddmq_submit___requeue_nargs=0
_shtab_ddmq_submit___dry_run_nargs=0
_shtab_ddmq_submit__f_nargs=0
_shtab_ddmq_submit___force_nargs=0
_shtab_ddmq_submit___stdin_nargs=0
_shtab_ddmq_submit___persistent_nargs=0
_shtab_ddmq_submit___bind_nargs=0
_shtab_ddmq_submit___group_nargs=0
_shtab_ddmq_submit___tag_nargs=0
_shtab_ddmq_submit___until_done_nargs=0
_shtab_ddmq_submit___forever_nargs=0
_shtab_ddmq_submit___no_brake_nargs=0
_shtab_ddmq_submit___then_even_if_dead_nargs=0
_shtab_ddmq_submit___progress_nargs=0
_shtab_ddmq_submit__d_nargs=0
_shtab_ddmq_submit___debug_nargs=0
_shtab_ddmq_submit___exit_zero_nargs=0
_shtab_ddmq_help__h_nargs=0
_shtab_ddmq_help___help_nargs=0
_shtab_ddmq_pos_0_nargs=A...
_shtab_ddmq__h_nargs=0
_shtab_ddmq___help_nargs=0
_shtab_ddmq__v_nargs=0
_shtab_ddmq___version_nargs=0


# $1=COMP_WORDS[1]
_shtab_compgen_files() {
  compgen -f -- $1  # files
}

# $1=COMP_WORDS[1]
_shtab_compgen_dirs() {
  compgen -d -- $1  # recurse into subdirs
}

# $1=COMP_WORDS[1]
_shtab_replace_nonword() {
  echo "${1//[^[:word:]]/_}"
}

# set default values (called for the initial parser & any subparsers)
_set_parser_defaults() {
  local subparsers_var="${prefix}_subparsers[@]"
  sub_parsers=${!subparsers_var-}

  local current_option_strings_var="${prefix}_option_strings[@]"
  current_option_strings=${!current_option_strings_var}

  completed_positional_actions=0

  _set_new_action "pos_$completed_positional_actions" true
}

# $1=action identifier
# $2=positional action (bool)
# set all identifiers for an action's parameters
_set_new_action() {
  current_action="${prefix}_$(_shtab_replace_nonword $1)"

  local current_action_compgen_var=${current_action}_COMPGEN
  current_action_compgen="${!current_action_compgen_var-}"

  local current_action_choices_var="${current_action}_choices[@]"
  current_action_choices="${!current_action_choices_var-}"

  local current_action_nargs_var="${current_action}_nargs"
  if [ -n "${!current_action_nargs_var-}" ]; then
    current_action_nargs="${!current_action_nargs_var}"
  else
    current_action_nargs=1
  fi

  current_action_args_start_index=$(( $word_index + 1 - $pos_only ))

  current_action_is_positional=$2
}

# Notes:
# `COMPREPLY`: what will be rendered after completion is triggered
# `completing_word`: currently typed word to generate completions for
# `${!var}`: evaluates the content of `var` and expand its content as a variable
_shtab_ddmq() {
  local completing_word="${COMP_WORDS[COMP_CWORD]}"
  local previous_word="${COMP_WORDS[COMP_CWORD-1]}"
  local completed_positional_actions
  local current_action
  local current_action_args_start_index
  local current_action_choices
  local current_action_compgen
  local current_action_is_positional
  local current_action_nargs
  local current_option_strings
  local sub_parsers
  COMPREPLY=()

  local prefix=_shtab_ddmq
  local word_index=0
  local pos_only=0 # "--" delimiter not encountered yet
  _set_parser_defaults
  word_index=1

  # determine what arguments are appropriate for the current state
  # of the arg parser
  while [ $word_index -ne $COMP_CWORD ]; do
    local this_word="${COMP_WORDS[$word_index]}"

    if [[ $pos_only = 1 || " $this_word " != " -- " ]]; then
      if [[ -n $sub_parsers && " ${sub_parsers[@]} " == *" $this_word "* ]]; then
        # valid subcommand: add it to the prefix & reset the current action
        prefix="${prefix}_$(_shtab_replace_nonword $this_word)"
        _set_parser_defaults
      fi

      if [[ " ${current_option_strings[@]} " == *" $this_word "* ]]; then
        # a new action should be acquired (due to recognised option string or
        # no more input expected from current action);
        # the next positional action can fill in here
        _set_new_action $this_word false
      fi

      if [[ "$current_action_nargs" != "*" ]] && \
         [[ "$current_action_nargs" != "+" ]] && \
         [[ "$current_action_nargs" != "?" ]] && \
         [[ "$current_action_nargs" != *"..." ]] && \
         (( $word_index + 1 - $current_action_args_start_index - $pos_only >= \
            $current_action_nargs )); then
        $current_action_is_positional && let "completed_positional_actions += 1"
        _set_new_action "pos_$completed_positional_actions" true
      fi
    else
      pos_only=1 # "--" delimiter encountered
    fi

    let "word_index+=1"
  done

  # Generate the completions

  COMPREPLY=()
  if [[ $pos_only = 0 && "$completing_word" == -* &&
        ( -z "$current_action_compgen" || "$current_action_is_positional" = true ) ]]; then
    # optional argument started: use option strings
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
      compgen -W "${current_option_strings[*]}" -- "$completing_word")
  elif [[ "$previous_word" =~ ^[0-9\&]*[\<\>]\>?$ ]]; then
    # handle redirection operators
    compopt -o filenames 2>/dev/null || : # bash>=4
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$completing_word")
  else
    # use choices & compgen
    local action_compgen_word="$completing_word"
    # handle tab-completing in the middle of a line (#248 <- #116)
    [[ -n "$current_action_compgen" && "$completing_word" == -* ]] && action_compgen_word=""
    [ -n "$current_action_compgen" ] && {
      [[ "$current_action_compgen" =~ _(file|dir|glob|FILE|DIR|GLOB)|File|Dir|Glob ]] &&
        compopt -o filenames 2>/dev/null || : # bash>=4
      while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
        "$current_action_compgen" "$action_compgen_word")
    }
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
      compgen -W "${current_action_choices[*]}" -- "$completing_word")
  fi

  if [[ ${#COMPREPLY[@]} = 0 ]]; then
    # native fallback matches are not necessarily filenames (e.g. variables)
    compopt +o filenames 2>/dev/null || : # bash>=4
  fi

  return 0
}

complete -o bashdefault -F _shtab_ddmq ddmq

# Completion of ddmq-worker, made by packaging/completion.py.

_shtab_ddmqworker_option_strings=(-h --help -v --version --from-file -f --force -j --slots --stdin --batch --persistent --env --bind --timeout --grace --term-signal --on-success --fatal --retry-free --on-exit --retries --backoff --group --tag --log-dir --logs --log-limit --output-dir --output-name --wait --until-done --forever --max-messages --max-failures --fast-failures --no-brake --then --then-even-if-dead --poll-max --time --deadline --min-remaining --progress -d --debug --exit-zero)

_shtab_ddmqworker_pos_0_COMPGEN=_shtab_compgen_dirs
_shtab_ddmqworker___from_file_COMPGEN=_shtab_compgen_files
_shtab_ddmqworker___log_dir_COMPGEN=_shtab_compgen_dirs
_shtab_ddmqworker___output_dir_COMPGEN=_shtab_compgen_dirs

_shtab_ddmqworker___logs_choices=(failed all none)

_shtab_ddmqworker__h_nargs=0
_shtab_ddmqworker___help_nargs=0
_shtab_ddmqworker__v_nargs=0
_shtab_ddmqworker___version_nargs=0
_shtab_ddmqworker__f_nargs=0
_shtab_ddmqworker___force_nargs=0
_shtab_ddmqworker___stdin_nargs=0
_shtab_ddmqworker___persistent_nargs=0
_shtab_ddmqworker___bind_nargs=0
_shtab_ddmqworker___group_nargs=0
_shtab_ddmqworker___tag_nargs=0
_shtab_ddmqworker___until_done_nargs=0
_shtab_ddmqworker___forever_nargs=0
_shtab_ddmqworker___no_brake_nargs=0
_shtab_ddmqworker___then_even_if_dead_nargs=0
_shtab_ddmqworker___progress_nargs=0
_shtab_ddmqworker__d_nargs=0
_shtab_ddmqworker___debug_nargs=0
_shtab_ddmqworker___exit_zero_nargs=0


# $1=COMP_WORDS[1]
_shtab_compgen_files() {
  compgen -f -- $1  # files
}

# $1=COMP_WORDS[1]
_shtab_compgen_dirs() {
  compgen -d -- $1  # recurse into subdirs
}

# $1=COMP_WORDS[1]
_shtab_replace_nonword() {
  echo "${1//[^[:word:]]/_}"
}

# set default values (called for the initial parser & any subparsers)
_set_parser_defaults() {
  local subparsers_var="${prefix}_subparsers[@]"
  sub_parsers=${!subparsers_var-}

  local current_option_strings_var="${prefix}_option_strings[@]"
  current_option_strings=${!current_option_strings_var}

  completed_positional_actions=0

  _set_new_action "pos_$completed_positional_actions" true
}

# $1=action identifier
# $2=positional action (bool)
# set all identifiers for an action's parameters
_set_new_action() {
  current_action="${prefix}_$(_shtab_replace_nonword $1)"

  local current_action_compgen_var=${current_action}_COMPGEN
  current_action_compgen="${!current_action_compgen_var-}"

  local current_action_choices_var="${current_action}_choices[@]"
  current_action_choices="${!current_action_choices_var-}"

  local current_action_nargs_var="${current_action}_nargs"
  if [ -n "${!current_action_nargs_var-}" ]; then
    current_action_nargs="${!current_action_nargs_var}"
  else
    current_action_nargs=1
  fi

  current_action_args_start_index=$(( $word_index + 1 - $pos_only ))

  current_action_is_positional=$2
}

# Notes:
# `COMPREPLY`: what will be rendered after completion is triggered
# `completing_word`: currently typed word to generate completions for
# `${!var}`: evaluates the content of `var` and expand its content as a variable
_shtab_ddmqworker() {
  local completing_word="${COMP_WORDS[COMP_CWORD]}"
  local previous_word="${COMP_WORDS[COMP_CWORD-1]}"
  local completed_positional_actions
  local current_action
  local current_action_args_start_index
  local current_action_choices
  local current_action_compgen
  local current_action_is_positional
  local current_action_nargs
  local current_option_strings
  local sub_parsers
  COMPREPLY=()

  local prefix=_shtab_ddmqworker
  local word_index=0
  local pos_only=0 # "--" delimiter not encountered yet
  _set_parser_defaults
  word_index=1

  # determine what arguments are appropriate for the current state
  # of the arg parser
  while [ $word_index -ne $COMP_CWORD ]; do
    local this_word="${COMP_WORDS[$word_index]}"

    if [[ $pos_only = 1 || " $this_word " != " -- " ]]; then
      if [[ -n $sub_parsers && " ${sub_parsers[@]} " == *" $this_word "* ]]; then
        # valid subcommand: add it to the prefix & reset the current action
        prefix="${prefix}_$(_shtab_replace_nonword $this_word)"
        _set_parser_defaults
      fi

      if [[ " ${current_option_strings[@]} " == *" $this_word "* ]]; then
        # a new action should be acquired (due to recognised option string or
        # no more input expected from current action);
        # the next positional action can fill in here
        _set_new_action $this_word false
      fi

      if [[ "$current_action_nargs" != "*" ]] && \
         [[ "$current_action_nargs" != "+" ]] && \
         [[ "$current_action_nargs" != "?" ]] && \
         [[ "$current_action_nargs" != *"..." ]] && \
         (( $word_index + 1 - $current_action_args_start_index - $pos_only >= \
            $current_action_nargs )); then
        $current_action_is_positional && let "completed_positional_actions += 1"
        _set_new_action "pos_$completed_positional_actions" true
      fi
    else
      pos_only=1 # "--" delimiter encountered
    fi

    let "word_index+=1"
  done

  # Generate the completions

  COMPREPLY=()
  if [[ $pos_only = 0 && "$completing_word" == -* &&
        ( -z "$current_action_compgen" || "$current_action_is_positional" = true ) ]]; then
    # optional argument started: use option strings
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
      compgen -W "${current_option_strings[*]}" -- "$completing_word")
  elif [[ "$previous_word" =~ ^[0-9\&]*[\<\>]\>?$ ]]; then
    # handle redirection operators
    compopt -o filenames 2>/dev/null || : # bash>=4
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$completing_word")
  else
    # use choices & compgen
    local action_compgen_word="$completing_word"
    # handle tab-completing in the middle of a line (#248 <- #116)
    [[ -n "$current_action_compgen" && "$completing_word" == -* ]] && action_compgen_word=""
    [ -n "$current_action_compgen" ] && {
      [[ "$current_action_compgen" =~ _(file|dir|glob|FILE|DIR|GLOB)|File|Dir|Glob ]] &&
        compopt -o filenames 2>/dev/null || : # bash>=4
      while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
        "$current_action_compgen" "$action_compgen_word")
    }
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
      compgen -W "${current_action_choices[*]}" -- "$completing_word")
  fi

  if [[ ${#COMPREPLY[@]} = 0 ]]; then
    # native fallback matches are not necessarily filenames (e.g. variables)
    compopt +o filenames 2>/dev/null || : # bash>=4
  fi

  return 0
}

complete -o bashdefault -F _shtab_ddmqworker ddmq-worker

# Completion of ddmq-submit, made by packaging/completion.py.

_shtab_ddmqsubmit_option_strings=(-h --help -v --version --workers --max-workers -j --slots --time -o --option --chain --requeue --worker --job-logs --dry-run --from-file -f --force --stdin --batch --persistent --env --bind --timeout --grace --term-signal --on-success --fatal --retry-free --on-exit --retries --backoff --group --tag --log-dir --logs --log-limit --output-dir --output-name --wait --until-done --forever --max-messages --max-failures --fast-failures --no-brake --then --then-even-if-dead --poll-max --deadline --min-remaining --progress -d --debug --exit-zero)

_shtab_ddmqsubmit_pos_1_COMPGEN=_shtab_compgen_dirs
_shtab_ddmqsubmit___worker_COMPGEN=_shtab_compgen_files
_shtab_ddmqsubmit___from_file_COMPGEN=_shtab_compgen_files
_shtab_ddmqsubmit___log_dir_COMPGEN=_shtab_compgen_dirs
_shtab_ddmqsubmit___output_dir_COMPGEN=_shtab_compgen_dirs

_shtab_ddmqsubmit_pos_0_choices=(slurm pbs sge)
_shtab_ddmqsubmit___logs_choices=(failed all none)

_shtab_ddmqsubmit__h_nargs=0
_shtab_ddmqsubmit___help_nargs=0
_shtab_ddmqsubmit__v_nargs=0
_shtab_ddmqsubmit___version_nargs=0
_shtab_ddmqsubmit___requeue_nargs=0
_shtab_ddmqsubmit___dry_run_nargs=0
_shtab_ddmqsubmit__f_nargs=0
_shtab_ddmqsubmit___force_nargs=0
_shtab_ddmqsubmit___stdin_nargs=0
_shtab_ddmqsubmit___persistent_nargs=0
_shtab_ddmqsubmit___bind_nargs=0
_shtab_ddmqsubmit___group_nargs=0
_shtab_ddmqsubmit___tag_nargs=0
_shtab_ddmqsubmit___until_done_nargs=0
_shtab_ddmqsubmit___forever_nargs=0
_shtab_ddmqsubmit___no_brake_nargs=0
_shtab_ddmqsubmit___then_even_if_dead_nargs=0
_shtab_ddmqsubmit___progress_nargs=0
_shtab_ddmqsubmit__d_nargs=0
_shtab_ddmqsubmit___debug_nargs=0
_shtab_ddmqsubmit___exit_zero_nargs=0


# $1=COMP_WORDS[1]
_shtab_compgen_files() {
  compgen -f -- $1  # files
}

# $1=COMP_WORDS[1]
_shtab_compgen_dirs() {
  compgen -d -- $1  # recurse into subdirs
}

# $1=COMP_WORDS[1]
_shtab_replace_nonword() {
  echo "${1//[^[:word:]]/_}"
}

# set default values (called for the initial parser & any subparsers)
_set_parser_defaults() {
  local subparsers_var="${prefix}_subparsers[@]"
  sub_parsers=${!subparsers_var-}

  local current_option_strings_var="${prefix}_option_strings[@]"
  current_option_strings=${!current_option_strings_var}

  completed_positional_actions=0

  _set_new_action "pos_$completed_positional_actions" true
}

# $1=action identifier
# $2=positional action (bool)
# set all identifiers for an action's parameters
_set_new_action() {
  current_action="${prefix}_$(_shtab_replace_nonword $1)"

  local current_action_compgen_var=${current_action}_COMPGEN
  current_action_compgen="${!current_action_compgen_var-}"

  local current_action_choices_var="${current_action}_choices[@]"
  current_action_choices="${!current_action_choices_var-}"

  local current_action_nargs_var="${current_action}_nargs"
  if [ -n "${!current_action_nargs_var-}" ]; then
    current_action_nargs="${!current_action_nargs_var}"
  else
    current_action_nargs=1
  fi

  current_action_args_start_index=$(( $word_index + 1 - $pos_only ))

  current_action_is_positional=$2
}

# Notes:
# `COMPREPLY`: what will be rendered after completion is triggered
# `completing_word`: currently typed word to generate completions for
# `${!var}`: evaluates the content of `var` and expand its content as a variable
_shtab_ddmqsubmit() {
  local completing_word="${COMP_WORDS[COMP_CWORD]}"
  local previous_word="${COMP_WORDS[COMP_CWORD-1]}"
  local completed_positional_actions
  local current_action
  local current_action_args_start_index
  local current_action_choices
  local current_action_compgen
  local current_action_is_positional
  local current_action_nargs
  local current_option_strings
  local sub_parsers
  COMPREPLY=()

  local prefix=_shtab_ddmqsubmit
  local word_index=0
  local pos_only=0 # "--" delimiter not encountered yet
  _set_parser_defaults
  word_index=1

  # determine what arguments are appropriate for the current state
  # of the arg parser
  while [ $word_index -ne $COMP_CWORD ]; do
    local this_word="${COMP_WORDS[$word_index]}"

    if [[ $pos_only = 1 || " $this_word " != " -- " ]]; then
      if [[ -n $sub_parsers && " ${sub_parsers[@]} " == *" $this_word "* ]]; then
        # valid subcommand: add it to the prefix & reset the current action
        prefix="${prefix}_$(_shtab_replace_nonword $this_word)"
        _set_parser_defaults
      fi

      if [[ " ${current_option_strings[@]} " == *" $this_word "* ]]; then
        # a new action should be acquired (due to recognised option string or
        # no more input expected from current action);
        # the next positional action can fill in here
        _set_new_action $this_word false
      fi

      if [[ "$current_action_nargs" != "*" ]] && \
         [[ "$current_action_nargs" != "+" ]] && \
         [[ "$current_action_nargs" != "?" ]] && \
         [[ "$current_action_nargs" != *"..." ]] && \
         (( $word_index + 1 - $current_action_args_start_index - $pos_only >= \
            $current_action_nargs )); then
        $current_action_is_positional && let "completed_positional_actions += 1"
        _set_new_action "pos_$completed_positional_actions" true
      fi
    else
      pos_only=1 # "--" delimiter encountered
    fi

    let "word_index+=1"
  done

  # Generate the completions

  COMPREPLY=()
  if [[ $pos_only = 0 && "$completing_word" == -* &&
        ( -z "$current_action_compgen" || "$current_action_is_positional" = true ) ]]; then
    # optional argument started: use option strings
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
      compgen -W "${current_option_strings[*]}" -- "$completing_word")
  elif [[ "$previous_word" =~ ^[0-9\&]*[\<\>]\>?$ ]]; then
    # handle redirection operators
    compopt -o filenames 2>/dev/null || : # bash>=4
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$completing_word")
  else
    # use choices & compgen
    local action_compgen_word="$completing_word"
    # handle tab-completing in the middle of a line (#248 <- #116)
    [[ -n "$current_action_compgen" && "$completing_word" == -* ]] && action_compgen_word=""
    [ -n "$current_action_compgen" ] && {
      [[ "$current_action_compgen" =~ _(file|dir|glob|FILE|DIR|GLOB)|File|Dir|Glob ]] &&
        compopt -o filenames 2>/dev/null || : # bash>=4
      while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
        "$current_action_compgen" "$action_compgen_word")
    }
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
      compgen -W "${current_action_choices[*]}" -- "$completing_word")
  fi

  if [[ ${#COMPREPLY[@]} = 0 ]]; then
    # native fallback matches are not necessarily filenames (e.g. variables)
    compopt +o filenames 2>/dev/null || : # bash>=4
  fi

  return 0
}

complete -o bashdefault -F _shtab_ddmqsubmit ddmq-submit
