# Encoders -> encoders fine-tuned by Spin. As in spidr.smk, the undeclared folder training/ outlives a failed job.

PERTURBERS = 8  # CPUs a GPU: each perturbs speech a hundred times as fast as it is spoken


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
    localrule: LAUNCH.is_local
    conda:
        "../../envs/environment.yaml"
    resources:
        **LAUNCH.resources(EXPERIMENT.device, mem_mb=32000, cpus=PERTURBERS),
        runtime=LAUNCH.minutes(1440),
    params:
        base=lambda wildcards, input: Path(input.base[0]).parent,
        settings=recipe_of,
        seed=EXPERIMENT.seed,
        device=device_of,
        folder=lambda wildcards, output: Path(output.config).parent,
        site=lambda wildcards, resources: LAUNCH.site(resources),
    shell:
        LAUNCH.start("units.spin.train", EXPERIMENT.device, PERTURBERS)
        + " --base {params.base:q} --settings {params.settings:q} --train {input.train:q}"
        " --seed {params.seed} --device {params.device} --output {params.folder:q} > {log:q} 2>&1"
