/* SPDX-License-Identifier: Apache-2.0 */
/*
 * environment.c - libfabric's variables in the environment of this process: those, set by a site or a user,
 * that have an effect on an engine. profile.c says which effect.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "fabric/internal.h"
#include "fabric/survey.h"

extern char **environ;

bool kvi_environment_get(size_t n, struct kvi_setting *setting)
{
	for (char **at = environ; at != NULL && *at != NULL; at++) {
		const char *value = strchr(*at, '=');
		if (strncmp(*at, "FI_", 3) != 0 || value == NULL)
			continue;
		size_t len = (size_t)(value - *at);
		const struct kvi_knob *knob = kvi_profile_find_knob(*at, len);
		if (knob->harmless != NULL && strcmp(value + 1, knob->harmless) == 0)
			continue;
		if (n-- > 0)
			continue;
		snprintf(setting->text, sizeof(setting->text), "%s", *at);
		setting->effect = knob->effect;
		setting->what = knob->what;
		return true;
	}
	return false;
}

size_t kvi_survey_list_settings(struct kvi_setting *settings, size_t max)
{
	size_t count = 0;
	while (count < max && kvi_environment_get(count, &settings[count]))
		count++;
	return count;
}

void kvi_environment_blame(struct kvt_error *error, enum kvi_effect effect)
{
	struct kvi_setting setting;
	if (error == NULL)
		return;
	const char *joint = "; in the environment:";
	for (size_t i = 0; kvi_environment_get(i, &setting); i++) {
		size_t len = strlen(error->text);
		if ((setting.effect & effect) == 0)
			continue;
		snprintf(error->text + len, sizeof(error->text) - len, "%s %.60s", joint,
			 setting.text);
		joint = ",";
	}
}
