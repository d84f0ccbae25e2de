# Before a run: what it would do and cost, and whether it has all it needs.


rule plan:
    log:
        f"{LOGS}/plan.log",
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        config=EXPERIMENT_FILE,
    shell:
        "python -m workflow.plan --configfile {params.config:q} > {log:q} 2>&1 && cat {log:q}"


rule check:
    log:
        f"{LOGS}/check.log",
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        config=EXPERIMENT_FILE,
        slurm=lambda wildcards: ("" if workflow.local_exec else "--slurm"),
    shell:
        "python -m workflow.check --configfile {params.config:q} {params.slurm} > {log:q} 2>&1 && cat {log:q}"
