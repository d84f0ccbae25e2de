# Encoders and K-means that are made elsewhere and are not there: a plan needs none of them, a run names each.


rule made_elsewhere:
    output:
        "{absent}",
    log:
        f"{LOGS}/made_elsewhere/{{absent}}.log",
    benchmark:
        f"{BENCHMARKS}/made_elsewhere/{{absent}}.tsv"
    wildcard_constraints:
        absent=any_of(ABSENT),
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=500,
        runtime=10,
    params:
        message=lambda wildcards: f"error: {wildcards.absent}: not there, expected it to be made (docs/encoders.md)",
    shell:
        "echo {params.message:q} > {log:q}; exit 2"
