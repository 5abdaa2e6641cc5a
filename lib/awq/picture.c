/* picture.c -- errors of a quantization, layer by layer, as an SVG. */
#include "awq/picture.h"

#include "base/buf.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Lengths in the SVG's own units. */
#define LEFT 56.0
#define TOP 76.0
#define PLOT_HEIGHT 220.0
#define BOTTOM 44.0
#define RIGHT 16.0
#define PLOT_WIDTH_MIN 360.0
/* wider ones are shrunk by the pages that show them, until nobody reads the numbers */
#define PLOT_WIDTH_MAX 820.0
#define LAYER_WIDTH 28.0
#define BAR_WIDTH_MAX 40.0
#define LABELS_MAX 20
#define MINUS "\xe2\x88\x92" /* U+2212, as wide as a digit */
#define METHOD_CHARS "abcdefghijklmnopqrstuvwxyz0123456789+-"

static const char style[] =
    /* with a ground of its own: a page may be light where the reader's setting is dark */
    "<style>"
    "text{font:12px system-ui,sans-serif;fill:#24292f}"
    ".title{font-weight:600;font-size:14px}.power{font-size:9px}.ground{fill:#fff}"
    ".grid{stroke:#d0d7de}.axis{stroke:#57606a}"
    ".attn{fill:#0969da}.mlp{fill:#bc4c00}.plain{stroke:#24292f;stroke-width:2}"
    "@media(prefers-color-scheme:dark){"
    ".ground{fill:#0d1117}text{fill:#e6edf3}.grid{stroke:#30363d}.axis{stroke:#8b949e}"
    ".attn{fill:#58a6ff}.mlp{fill:#f0883e}.plain{stroke:#e6edf3}}"
    "</style>";

/* The parts of a layer: what the report calls them, and the class of their bars. */
static const struct series {
	const char *error, *plain, *class, *label;
	double legend; /* width there */
} series[] = {
    {"attn_error", "attn_before", "attn", "attention", 90},
    {"mlp_error", "mlp_before", "mlp", "MLP", 62},
};
#define SERIES (sizeof(series) / sizeof(*series))

/* The plot: values from 10^low to 10^high. */
struct plot {
	const json_t *layers;
	size_t count;
	double width, slot; /* of all, of one layer */
	int low, high;
};

/* 0: there is no such number, or it is nothing that a logarithm has. */
static double
value_of(const struct plot *plot, size_t i, const char *key)
{
	double value = json_number_value(json_object_get(json_array_get(plot->layers, i), key));

	return isfinite(value) && value > 0 ? value : 0;
}

static void
fit(struct plot *plot)
{
	double least = INFINITY, most = 0;

	for (size_t i = 0; i < plot->count; i++) {
		for (size_t s = 0; s < SERIES; s++) {
			double both[] = {
			    value_of(plot, i, series[s].error), value_of(plot, i, series[s].plain)};

			for (size_t k = 0; k < 2; k++) {
				if (both[k] > 0 && both[k] < least)
					least = both[k];
				if (both[k] > most)
					most = both[k];
			}
		}
	}
	if (most <= 0)
		least = most = 1;
	plot->low = (int)floor(log10(least) - 0.05);
	plot->high = (int)ceil(log10(most) + 0.05);
}

static double
y_of(const struct plot *plot, double value)
{
	double part = (log10(value) - plot->low) / (plot->high - plot->low);

	return TOP + PLOT_HEIGHT * (1 - part);
}

/* 1, 2, 5, 10, 20, ... layers from one label to the next. */
static size_t
label_step(size_t count)
{
	static const size_t steps[] = {1, 2, 5};
	size_t step = 1;

	for (size_t k = 0, ten = 1; count > step * LABELS_MAX; step = steps[k] * ten) {
		if (++k == 3) {
			k = 0;
			ten *= 10;
		}
	}
	return step;
}

static void
add_axes(const struct plot *plot, struct sp_buf *out)
{
	size_t step = label_step(plot->count);
	/* a model whose errors span many decades has a line for some of them */
	int decades = (plot->high - plot->low + 7) / 8;

	for (int p = plot->low; p <= plot->high; p += decades) {
		double y = y_of(plot, pow(10, p));

		sp_buf_printf(out,
		    "<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>"
		    "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">10<tspan class=\"power\" "
		    "dy=\"-5\">%s%d</tspan></text>\n",
		    LEFT, y, LEFT + plot->width, y, LEFT - 6, y + 4, p < 0 ? MINUS : "", abs(p));
	}
	sp_buf_printf(out,
	    "<line class=\"axis\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", LEFT,
	    TOP + PLOT_HEIGHT, LEFT + plot->width, TOP + PLOT_HEIGHT);
	for (size_t i = 0; i < plot->count; i += step)
		sp_buf_printf(out,
		    "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%zu</text>\n",
		    LEFT + plot->slot * ((double)i + 0.5), TOP + PLOT_HEIGHT + 16, i);
	sp_buf_printf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">layer</text>\n",
	    LEFT + plot->width / 2, TOP + PLOT_HEIGHT + 34);
}

static void
add_bar(const struct plot *plot, size_t i, size_t s, struct sp_buf *out)
{
	double error = value_of(plot, i, series[s].error);
	double plain = value_of(plot, i, series[s].plain);
	const size_t parts = SERIES;
	double width = fmin(plot->slot * 0.42, BAR_WIDTH_MAX);
	double x =
	    LEFT + plot->slot * ((double)i + 0.5) + width * ((double)s - 0.5 * (double)parts);

	if (error > 0) {
		double y = y_of(plot, error);

		sp_buf_printf(out,
		    "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\">"
		    "<title>layer %zu, %s: %.3g</title></rect>\n",
		    series[s].class, x, y, width * 0.9, TOP + PLOT_HEIGHT - y, i, series[s].label,
		    error);
	}
	if (plain > 0) {
		double y = y_of(plot, plain);

		sp_buf_printf(out,
		    "<line class=\"plain\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\">"
		    "<title>layer %zu, %s, rounded to nearest: %.3g</title></line>\n",
		    x, y, x + width * 0.9, y, i, series[s].label, plain);
	}
}

/* What was done, in the words of the report where it has them. */
static void
add_title(const json_t *report, struct sp_buf *out)
{
	const json_t *plan = json_object_get(report, "plan");
	const char *method =
	    json_string_value(json_object_get(json_object_get(report, "settings"), "method"));
	long long group = json_integer_value(json_object_get(plan, "group_size"));

	sp_buf_puts(out, "<text class=\"title\" x=\"8\" y=\"20\">"
			 "Mean squared error of each layer's parts</text>\n");
	if (method == NULL || method[strspn(method, METHOD_CHARS)] != '\0' || group <= 0)
		return;
	sp_buf_printf(out,
	    "<text x=\"8\" y=\"38\">4 bits by %s, groups of %lld%s; logarithmic</text>\n", method,
	    group, json_is_true(json_object_get(plan, "symmetric")) ? ", symmetric" : "");
}

static void
add_legend(struct sp_buf *out)
{
	double x = 8;

	for (size_t s = 0; s < SERIES; s++) {
		sp_buf_printf(out,
		    "<rect class=\"%s\" x=\"%.1f\" y=\"48\" width=\"10\" height=\"10\"/>"
		    "<text x=\"%.1f\" y=\"57\">%s</text>\n",
		    series[s].class, x, x + 16, series[s].label);
		x += series[s].legend;
	}
	sp_buf_printf(out,
	    "<line class=\"plain\" x1=\"%.1f\" y1=\"53\" x2=\"%.1f\" y2=\"53\"/>"
	    "<text x=\"%.1f\" y=\"57\">the same, rounded to nearest</text>\n",
	    x, x + 12, x + 18);
}

char *
sp_picture_draw(const json_t *report, size_t *len)
{
	struct plot plot = {.layers = json_object_get(report, "layers")};
	struct sp_buf out = {0};
	double width, height = TOP + PLOT_HEIGHT + BOTTOM;

	plot.count = json_array_size(plot.layers);
	plot.width = fmin(fmax(LAYER_WIDTH * (double)plot.count, PLOT_WIDTH_MIN), PLOT_WIDTH_MAX);
	plot.slot = plot.width / (plot.count > 0 ? (double)plot.count : 1);
	width = LEFT + plot.width + RIGHT;
	fit(&plot);
	sp_buf_printf(&out,
	    "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"0 0 %.0f %.0f\" "
	    "width=\"%.0f\" height=\"%.0f\">\n<title>Mean squared error of each layer's parts: "
	    "quantized, and rounded to nearest</title>\n%s\n"
	    "<rect class=\"ground\" width=\"%.0f\" height=\"%.0f\"/>\n",
	    width, height, width, height, style, width, height);
	add_title(report, &out);
	add_legend(&out);
	add_axes(&plot, &out);
	for (size_t i = 0; i < plot.count; i++) {
		for (size_t s = 0; s < SERIES; s++)
			add_bar(&plot, i, s, &out);
	}
	sp_buf_puts(&out, "</svg>\n");
	return sp_buf_take(&out, len);
}
