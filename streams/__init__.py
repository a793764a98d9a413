"""Streams: data sets, families of tasks, schedules, and the benchmarks shipped as YAML files.

The tables are explicit; a new benchmark is one file and one row.
"""

BENCHMARKS = {
    "split_digits-v1": "split_digits-v1.yaml",
    "permuted_digits-v1": "permuted_digits-v1.yaml",
    "rotated_digits-v1": "rotated_digits-v1.yaml",
    "split_mnist-v1": "split_mnist-v1.yaml",
    "split_mnist_task-v1": "split_mnist_task-v1.yaml",
    "split_mnist_domain-v1": "split_mnist_domain-v1.yaml",
    "permuted_mnist-v1": "permuted_mnist-v1.yaml",
    "permuted_mnist_classp-v1": "permuted_mnist_classp-v1.yaml",
    "rotated_mnist-v1": "rotated_mnist-v1.yaml",
    "split_fashion_mnist-v1": "split_fashion_mnist-v1.yaml",
    "split_cifar10-v1": "split_cifar10-v1.yaml",
    "split_cifar100-v1": "split_cifar100-v1.yaml",
    "power_law_mnist-v1": "power_law_mnist-v1.yaml",
    "exponential_mnist-v1": "exponential_mnist-v1.yaml",
    "uniform_mnist-v1": "uniform_mnist-v1.yaml",
    "no_rehearsal_mnist-v1": "no_rehearsal_mnist-v1.yaml",
    "scole_mnist-v1": "scole_mnist-v1.yaml",
    "online_mnist-v1": "online_mnist-v1.yaml",
    "blurry_mnist-v1": "blurry_mnist-v1.yaml",
    "drift_mnist-v1": "drift_mnist-v1.yaml",
    "long_tail_mnist-v1": "long_tail_mnist-v1.yaml",
    "iid_mnist-v1": "iid_mnist-v1.yaml",
    "power_law_digits-v1": "power_law_digits-v1.yaml",
    "exponential_digits-v1": "exponential_digits-v1.yaml",
    "uniform_digits-v1": "uniform_digits-v1.yaml",
    "no_rehearsal_digits-v1": "no_rehearsal_digits-v1.yaml",
    "scole_digits-v1": "scole_digits-v1.yaml",
    "online_digits-v1": "online_digits-v1.yaml",
    "blurry_digits-v1": "blurry_digits-v1.yaml",
    "drift_digits-v1": "drift_digits-v1.yaml",
    "long_tail_digits-v1": "long_tail_digits-v1.yaml",
    "iid_digits-v1": "iid_digits-v1.yaml",
    "long_tail_cifar100-v1": "long_tail_cifar100-v1.yaml",
    "few_shot_cifar100-v1": "few_shot_cifar100-v1.yaml",
    "few_shot_omniglot-v1": "few_shot_omniglot-v1.yaml",
    "few_shot_digits-v1": "few_shot_digits-v1.yaml",
    "digit_domains-v1": "digit_domains-v1.yaml",
    "split_synthetic-v1": "split_synthetic-v1.yaml",
    "split_mnist_half-v1": "split_mnist_half-v1.yaml",
    "split_fashion_mnist_half-v1": "split_fashion_mnist_half-v1.yaml",
    "cifar100_b50_t5-v1": "cifar100_b50_t5-v1.yaml",
    "cifar100_b50_t10-v1": "cifar100_b50_t10-v1.yaml",
    "cifar100_b40_t20-v1": "cifar100_b40_t20-v1.yaml",
    "cifar100_b40_t60-v1": "cifar100_b40_t60-v1.yaml",
}
"""id -> file beside this one."""

TASKS = {
    "classes": "streams.class_blocks:lay_out",
    "classes_and_instances": "streams.class_blocks:lay_out",
    "instances": "streams.instances:lay_out",
    "permutations": "streams.pixel_permutations:lay_out",
    "rotations": "streams.transforms:lay_out",
    "transforms": "streams.transforms:lay_out",
    "given": "streams.given:lay_out",
}
"""`stream.tasks.by` -> the function that lays the tasks out."""

SUPERVISION = "streams.supervision:supervise"
"""Which samples come, and with which labels."""

SCHEDULES = {
    "sequential": "streams.sequential:arrange",
    "power_law": "streams.recurrence:arrange",
    "exponential": "streams.recurrence:arrange",
    "uniform": "streams.recurrence:arrange",
    "none": "streams.recurrence:arrange",
    "random_subsets": "streams.random_subsets:arrange",
    "repetition": "streams.repetition:arrange",
    "blurry": "streams.blurry:arrange",
    "drift": "streams.drift:arrange",
    "explicit": "streams.explicit:arrange",
}
"""`stream.schedule.by` -> the function that arranges experiences."""

ONLINE = "streams.online:cut"
"""Experiences to sub-experiences."""

SELECTION = "streams.selection:select"
"""What hyper-parameters may be chosen on."""
