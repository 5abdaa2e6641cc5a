SALLYCTL := commands ctl args help completion out client view bars jobs watch entry evidence log database approve models chain scan place pull fetched show quantize reproduce keys \
	trust_new trust gc doctor doctor_facts doctor_host doctor_judge doctor_judge_host doctor_report

$(eval $(call program,sallyctl,daemons/sallyctl,main $(SALLYCTL),awq engine model release ledger store eval bus base proto,\
	libzmq libprotobuf-c libsodium gnutls jansson libconfig libutf8proc libpcre2-8 libseccomp sqlite3 sleef))
$(eval $(call unit,sallyctl,$(addprefix daemons/sallyctl/,args out client view entry trust_new scan ctl) \
	lib/bus/wire lib/ledger/jobs lib/store/tree lib/release/key lib/release/dsse lib/release/trust \
	lib/base/conf lib/base/conf_keys proto/operator proto/bus proto/audit $(BASE),libzmq libprotobuf-c \
	libsodium gnutls jansson libconfig libutf8proc))
$(eval $(call unit,sallyctl_bars,$(addprefix daemons/sallyctl/,bars view out) lib/ledger/jobs proto/operator \
	proto/bus $(BASE),libprotobuf-c gnutls jansson libutf8proc))
# what all commands together are made of
SALLYCTL_ALL := $(addprefix daemons/sallyctl/,$(SALLYCTL)) \
	$(addprefix lib/release/,key dsse trust statement candidate bom chain proof release snapshot) \
	lib/ledger/merkle lib/ledger/note lib/ledger/jobs lib/ledger/entry lib/ledger/replay lib/base/parallel \
	lib/ledger/log lib/ledger/tiles lib/ledger/db lib/ledger/table lib/ledger/inspect \
	lib/store/store lib/store/tree lib/store/tree_io lib/bus/wire \
	lib/bus/paths lib/base/conf lib/base/conf_keys lib/base/landlock \
	$(addprefix lib/eval/,verdict sandbox sandbox_kind sandbox_py sandbox_filter sandbox_enter) \
	$(addprefix lib/awq/,round pack power search gram race trial mix block factor plane plus calib plan partial inspect emit quantize settings card picture convert) \
	$(addprefix lib/engine/,kernels pool linear layer rope moe attention weights spill stream) \
	$(addprefix lib/model/,dtype safetensors index config strip) $(TOKENIZER) \
	lib/base/program proto/operator proto/bus proto/audit
SALLYCTL_LIBS := libzmq libprotobuf-c libsodium gnutls jansson libconfig libutf8proc libpcre2-8 libseccomp sqlite3 sleef
$(eval $(call unit,sallyctl_commands,$(SALLYCTL_ALL) tests/unit/release_rig $(BASE),$(SALLYCTL_LIBS)))
$(eval $(call unit,sallyctl_fetched,$(SALLYCTL_ALL) tests/unit/release_rig $(BASE),$(SALLYCTL_LIBS)))
$(eval $(call unit,sallyctl_table,$(SALLYCTL_ALL) $(BASE),$(SALLYCTL_LIBS)))
$(eval $(call unit,sallyctl_doctor,$(addprefix daemons/sallyctl/,doctor_judge doctor_judge_host doctor_report out \
	trust_new) lib/release/key lib/release/dsse lib/release/trust proto/operator proto/bus $(BASE),\
	libprotobuf-c libsodium gnutls jansson libutf8proc))
# sallyctl looks for it there, seen from its own directory, installed or not
ALL += $(B)/share/sallyport/calibration.jsonl
$(B)/share/sallyport/calibration.jsonl: share/calibration.jsonl
	@mkdir -p $(@D)
	$(Q)cp $< $@
