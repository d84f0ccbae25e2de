# Encoders -> encoders fine-tuned by Spin. As in spidr.smk, the undeclared folder training/ outlives a failed job.


rule finetune_spin:
    input:
        base=lambda wildcards: files_of_encoder(encoder_of(wildcards).base),
        train=lambda wildcards: [manifest(corpus) for corpus in encoder_of(wildcards).train],
    output:
        config=f"{ROOT}/encoders/{{encoder}}/config.json",
        weights=f"{ROOT}/encoders/{{encoder}}/spin.safetensors",
        base=directory(f"{ROOT}/encoders/{{encoder}}/base"),
    log:
        f"{LOGS}/finetune_spin/{{encoder}}.log",
    benchmark:
        f"{BENCHMARKS}/finetune_spin/{{encoder}}.tsv"
    wildcard_constraints:
        encoder=any_of(FINE_TUNED),
    priority: 10  # as pretrain
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=32000,
        runtime=1440,
        gpu=1,
        cpus_per_task=8,  # each perturbs speech a hundred times as fast as it is spoken
    params:
        base=lambda wildcards, input: Path(input.base[0]).parent,
        settings=recipe_of,
        seed=EXPERIMENT.seed,
        device=device_of,
        folder=lambda wildcards, output: Path(output.config).parent,
    shell:
        "python -m units.spin.train --base {params.base} --settings {params.settings:q} --train {input.train}"
        " --seed {params.seed} --device {params.device} --output {params.folder} > {log} 2>&1"
